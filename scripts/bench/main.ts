/**
 * `npm run bench [-- --json] [-- --only NAME]`: real processes, real Redis, the tiny models on the CPU. Every row compares two things
 * measured in this one run; the machine is noisy, so read the ratios and not the milliseconds.
 */
import { parseArgs } from "node:util";
import { cancelRows } from "./cancel-rows.ts";
import { decoderRows } from "./decoder-rows.ts";
import { endRows } from "./end-rows.ts";
import { fluxRows } from "./flux-rows.ts";
import { gatewayRows } from "./gateway-rows.ts";
import { idleRows } from "./idle-rows.ts";
import { latencyRows } from "./latency-rows.ts";
import { memoryRows } from "./memory-rows.ts";
import { pullRows } from "./pull-rows.ts";
import { queueRows } from "./queue-rows.ts";
import { runnerRows } from "./runner-rows.ts";
import { formatTable, type Row } from "./row.ts";
import { socketRows } from "./socket-rows.ts";
import { soundRows } from "./sound-rows.ts";
import { submitMemoryRows } from "./submit-memory-rows.ts";
import { videoRows } from "./video-rows.ts";
import { webhookRows } from "./webhook-rows.ts";

const { values } = parseArgs({ options: { json: { type: "boolean", default: false }, only: { type: "string" } } });

const groups: Readonly<Record<string, () => Promise<readonly Row[]>>> = {
  idle: idleRows,
  latency: latencyRows,
  queue: queueRows,
  flux: fluxRows,
  memory: memoryRows,
  decoder: decoderRows,
  runner: runnerRows,
  end: endRows,
  gateway: gatewayRows,
  sockets: socketRows,
  webhooks: webhookRows,
  sound: soundRows,
  video: videoRows,
  cancel: cancelRows,
  pull: pullRows,
  "submit-memory": submitMemoryRows,
};
/** Minutes each: run by name alone. */
const SLOW: ReadonlySet<string> = new Set(["submit-memory", "cancel", "pull"]);
const chosen = Object.entries(groups).filter(([name]) => (values.only === undefined ? !SLOW.has(name) : values.only === name));
if (chosen.length === 0) {
  process.stderr.write(`bench: no rows named ${values.only}; expected one of ${Object.keys(groups).join(", ")}\n`);
  process.exit(2);
}
const rows: Row[] = [];
for (const [, measure] of chosen) rows.push(...(await measure()));
process.stdout.write(values.json ? `${JSON.stringify(rows, null, 2)}\n` : `${formatTable(rows)}\n`);
