import type { JobState } from "../../core/job-state.ts";
import type { RequestRecord } from "../../protocol/request.ts";
import { linkToFile } from "../../requests/link-to-file.ts";
import { readState, type UnreadableRequest } from "../../requests/read-state.ts";
import { whyWaiting } from "../../requests/why-waiting.ts";
import { isUnreadable, orUnreadable } from "../../protocol/stored.ts";
import { notFound } from "../http/errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { statusBody, unreadableStatus } from "./status-body.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export interface FoundRequest {
  readonly record: RequestRecord;
  readonly state: JobState;
}

/**
 * A client's own request. One that another version wrote, or that is damaged, is there and is not read: the client's index says whose it is.
 * @throws HttpProblem 404, also for somebody else's: nobody learns which ids exist
 */
export async function ownRequest(context: GatewayContext, client: string, id: string): Promise<FoundRequest | UnreadableRequest> {
  const found = UUID.test(id) ? await orUnreadable(readState(context, id)) : null;
  if (isUnreadable(found) && (await context.index.has(client, id))) return { id, ...found };
  if (found === null || isUnreadable(found) || found.record.client !== client) throw notFound();
  return found;
}

/** The whole status body of a request, with fresh links and an estimate. */
export async function describeRequest(
  context: GatewayContext,
  found: FoundRequest | UnreadableRequest,
): Promise<Readonly<Record<string, unknown>>> {
  if (isUnreadable(found)) return unreadableStatus(found);
  const { record, state } = found;
  const files = (state.result?.files ?? []).filter(({ role }) => role !== "extra");
  const links = new Map(await Promise.all(files.map(async (file) => [file.name, await linkToFile(context, record, file)] as const)));
  const position = state.status === "pending" ? await context.queues.position(record.queue, record.id) : null;
  // A guess for the client's comfort: what it is made from may be unreadable.
  const guess = await orUnreadable(estimate(context, { record, state }, position));
  const etaMs = isUnreadable(guess) ? null : guess;
  const waits = await whyWaiting(context.offered, { record, state });
  return statusBody({ record, state, linkOf: (file) => links.get(file.name) ?? "", position, etaMs, waits });
}

/** Milliseconds until the end, from what jobs of the model took lately; null when nothing is known, or it has ended. */
async function estimate(context: GatewayContext, { record, state }: FoundRequest, position: number | null): Promise<number | null> {
  if (state.status !== "pending" && state.status !== "processing") return null;
  const mean = await context.runTimes.of(record.model);
  if (mean === null) return null;
  if (state.status === "processing") return mean * (1 - state.progress / 100);
  const workers = (await context.registry.list()).filter(({ models, draining }) => !draining && models.includes(record.model));
  const slots = workers.reduce((sum, worker) => sum + worker.devices.length, 0);
  return slots === 0 ? null : Math.ceil((position ?? 1) / slots) * mean;
}
