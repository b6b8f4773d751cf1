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
import { askedFields, errorFields, IN_A_LIST, waitFields } from "../views/status-body.ts";

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
    const { state } = await ownRequest(context, client, request.params.id);
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
  const data = await Promise.all(shown.map(async (each) => (isUnreadable(each) ? unreadableEntry(each) : rowOf(context, each))));
  return { data, meta: { next_cursor: page.cursor, per_page: limit } };
}

async function rowOf(context: GatewayContext, { record, state }: FoundRequest): Promise<Readonly<Record<string, unknown>>> {
  return {
    request_id: record.id,
    ...askedFields(record, IN_A_LIST),
    inference_type: TASKS[record.task],
    status: state.status,
    progress: Math.round(state.progress * 100) / 100,
    ended_at: state.endedAt === null ? null : new Date(state.endedAt).toISOString(),
    ...waitFields(await whyWaiting(context.offered, { record, state })),
  };
}

/** A request that another version recorded, or that is damaged: it is there, and what failed is that this gateway cannot read it. */
function unreadableEntry({ id }: UnreadableRequest): Readonly<Record<string, unknown>> {
  return {
    request_id: id,
    task: null,
    inference_type: null,
    model: null,
    status: "error",
    progress: 0,
    created_at: null,
    params: null,
    params_truncated: false,
    ended_at: null,
    ...errorFields({ error: { code: "RECORD_UNREADABLE", message: "" }, endedAt: null }),
  };
}
