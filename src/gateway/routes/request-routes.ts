import type { FastifyInstance } from "fastify";
import { TASKS } from "../../protocol/task.ts";
import { cancelJob } from "../../requests/cancel-job.ts";
import { isUnreadable } from "../../protocol/stored.ts";
import { readStates, type UnreadableRequest } from "../../requests/read-state.ts";
import { whyWaiting } from "../../requests/why-waiting.ts";
import { clientOf } from "../http/authenticate.ts";
import { conflict, invalid } from "../http/errors.ts";
import { limitOf } from "../http/page-query.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { describeRequest, ownRequest, type FoundRequest } from "../views/request-view.ts";
import { askedFields, errorFields, IN_A_LIST, unreadableFields, waitFields } from "../views/status-body.ts";

const STATUSES: readonly string[] = ["pending", "processing", "done", "error"];
const DEFAULT_PAGE = 20;

/** One's own requests: status, list, cancel. */
export async function requestRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  app.get<{ Params: { id: string } }>("/api/v1/client/request-status/:id", async (request) => {
    const found = await ownRequest(context, clientOf(request).id, request.params.id);
    return { data: await describeRequest(context, found) };
  });

  app.post<{ Params: { id: string } }>("/api/v1/client/requests/:id/cancel", async (request) => {
    const client = clientOf(request).id;
    const found = await ownRequest(context, client, request.params.id);
    if (isUnreadable(found)) throw conflict(`The request cannot be cancelled by this version (${found.unreadable}).`);
    const { state } = found;
    if (state.status === "done" || state.status === "error") throw conflict("The request has already ended.");
    await cancelJob(context, request.params.id);
    return { data: await describeRequest(context, await ownRequest(context, client, request.params.id)) };
  });

  app.get<{ Querystring: Readonly<Record<string, unknown>> }>("/api/v1/client/requests", async (request) => {
    const { status, cursor } = request.query;
    if (status !== undefined && status !== "" && !STATUSES.includes(status as string))
      throw invalid({ status: [`The status field must be one of ${STATUSES.join(", ")}.`] });
    const wanted = typeof status === "string" && status !== "" ? status : null;
    return listRequests(context, clientOf(request).id, {
      wanted,
      limit: limitOf(request.query, DEFAULT_PAGE),
      cursor: typeof cursor === "string" ? cursor : null,
    });
  });
}

/** Newest first. With a status, a page may be shorter than `limit` although there are more: the cursor says so. */
async function listRequests(
  context: GatewayContext,
  client: string,
  { wanted, limit, cursor }: { readonly wanted: string | null; readonly limit: number; readonly cursor: string | null },
): Promise<unknown> {
  const page = await context.index.page(client, { cursor, limit });
  const found = await readStates(context, page.ids);
  const shown = found.filter((each) => wanted === null || (isUnreadable(each) ? "error" : each.state.status) === wanted);
  const data = await Promise.all(shown.map(async (each) => rowOf(context, each)));
  return { data, meta: { next_cursor: page.cursor, per_page: limit } };
}

async function rowOf(context: GatewayContext, found: FoundRequest | UnreadableRequest): Promise<Readonly<Record<string, unknown>>> {
  if (isUnreadable(found)) return { ...unreadableFields(found), inference_type: null, ended_at: null };
  const { record, state } = found;
  return {
    request_id: record.id,
    ...askedFields(record, IN_A_LIST),
    inference_type: TASKS[record.task],
    status: state.status,
    progress: Math.round(state.progress * 100) / 100,
    ended_at: state.endedAt === null ? null : new Date(state.endedAt).toISOString(),
    ...errorFields(state),
    ...waitFields(await whyWaiting(context.offered, { record, state })),
  };
}
