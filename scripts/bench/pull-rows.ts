import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, open, rm } from "node:fs/promises";
import { Agent } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { fetchFile } from "../../src/models/pull/fetch-file.ts";
import { percentile, row, type Row } from "./row.ts";

const MIB = 2 ** 20;
const SIZE_MIB = 1_024;
const ROUNDS = 5;
/** As `dryapi models pull` has them. */
const [LANES, PIECE_BYTES] = [6, 16 * MIB];

/** One large file from a server on this machine: ours, with its sha256 and on the disk for sure, over curl, which has neither. */
export async function pullRows(): Promise<readonly Row[]> {
  const dir = await mkdtemp(join(tmpdir(), "bench-pull-"));
  const source = join(dir, "source");
  await fill(source);
  const server = spawn(process.execPath, [join(import.meta.dirname, "range-server.ts"), source], { stdio: ["ignore", "pipe", "inherit"] });
  const agent = new Agent({ keepAlive: true, maxSockets: LANES });
  try {
    const [port] = (await once(server.stdout, "data")) as [Buffer];
    const url = new URL(`http://127.0.0.1:${port.toString().trim()}/file`);
    const [ours, bare]: [number[], number[]] = [[], []];
    const file = { from: "file", to: "file", url, sizeBytes: null, sha256: null };
    const options = { lanes: LANES, pieceBytes: PIECE_BYTES, stallMs: 60_000, tries: 3, agent: () => agent };
    for (let round = 0; round < ROUNDS; round++) {
      ours.push(await timed(() => fetchFile(file, join(dir, "ours"), options)));
      bare.push(await timed(() => promisify(execFile)("curl", ["--silent", "--fail", "--output", join(dir, "curl"), url.href])));
      await Promise.all(["ours", "curl"].map((name) => rm(join(dir, name))));
    }
    const name = `a pull of ${SIZE_MIB} MiB on this machine, digest and sync included, over curl`;
    return [
      row({
        name,
        unit: "ms",
        ours: percentile(ours, 50),
        bare: percentile(bare, 50),
        goal: { text: "<= 1.11", met: ({ ratio }) => ratio <= 1.11 },
      }),
    ];
  } finally {
    agent.destroy();
    server.kill();
    await rm(dir, { recursive: true, force: true });
  }
}

async function fill(path: string): Promise<void> {
  await using handle = await open(path, "w");
  for (let written = 0; written < SIZE_MIB; written += 16) await handle.write(randomBytes(16 * MIB));
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}
