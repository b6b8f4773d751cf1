import { TASKS } from "../../protocol/task.ts";
import { answer, BEARER, BODY_FAILURES, failures, object, pathParameter, jsonBody, query, ref, uuid, type Schema } from "./schema.ts";

const CLIENT = "/api/v1/client";
const id = pathParameter("id", uuid, "The request's.");
const perPage = query("per_page", { type: "integer", minimum: 1 }, { description: "Another name of `limit`, which goes first." });
const limit = query("limit", { type: "integer", minimum: 1, default: 20 }, { description: "More than 50 count as 50." });

/** Status, list, cancel; models, balance; the right to a channel. */
export function requestPaths(): Readonly<Record<string, Schema>> {
  return {
    [`${CLIENT}/request-status/{id}`]: {
      get: {
        tags: ["Requests"],
        operationId: "requestStatus",
        summary: "The state of a request, with fresh links",
        ...BEARER,
        parameters: [id],
        responses: { ...answer("The request.", ref("RequestAnswer")), ...failures(400, 401, 404, 500, 503) },
      },
    },
    [`${CLIENT}/requests/{id}/cancel`]: {
      post: {
        tags: ["Requests"],
        operationId: "cancelRequest",
        summary: "Cancel a request: a waiting one never starts, a running one stops at its next step",
        ...BEARER,
        parameters: [id],
        responses: { ...answer("The request as it is now.", ref("RequestAnswer")), ...failures(400, 401, 404, 409, 413, 415, 500, 503) },
      },
    },
    [`${CLIENT}/requests`]: {
      get: {
        tags: ["Requests"],
        operationId: "listRequests",
        summary: "Own requests, newest first",
        description: "With a status a page may be shorter than `limit` although there are more: `meta.next_cursor` says so.",
        ...BEARER,
        parameters: [
          query("status", { type: "string", enum: ["pending", "processing", "done", "error", ""] }, { description: "Empty: all." }),
          limit,
          perPage,
          query("cursor", { type: "string", pattern: "^[^\\u0000]*$" }, { description: "`meta.next_cursor` of the page before." }),
        ],
        responses: { ...answer("A page.", ref("RequestsPage")), ...failures(400, 401, 422, 500, 503) },
      },
    },
    [`${CLIENT}/models`]: { get: models() },
    [`${CLIENT}/balance`]: {
      get: {
        tags: ["Catalogue"],
        operationId: "balance",
        summary: "Nothing is charged here: a constant of the operator's",
        ...BEARER,
        responses: { ...answer("The balance.", ref("Balance")), ...failures(400, 401, 500, 503) },
      },
    },
    "/broadcasting/auth": { post: channelAuth() },
  };
}

function models(): Schema {
  return {
    tags: ["Catalogue"],
    operationId: "listModels",
    summary: "The models that are offered, their tasks, limits and defaults",
    ...BEARER,
    parameters: [
      query("page", { type: "integer", minimum: 1, default: 1 }),
      { ...limit, schema: { type: "integer", minimum: 1, default: 25 } },
      perPage,
      query(
        "filter[inference_types]",
        { type: "string", pattern: "^[^\\u0000]*$" },
        {
          description: `Some of ${[...new Set(Object.values(TASKS))].join(", ")}, with commas between them. Others match nothing.`,
        },
      ),
    ],
    responses: { ...answer("A page.", ref("ModelsPage")), ...failures(400, 401, 422, 500, 503) },
  };
}

function channelAuth(): Schema {
  const body = object({
    socket_id: { type: "string", pattern: "^[0-9]+\\.[0-9]+$", description: "From pusher:connection_established." },
    channel_name: { type: "string", pattern: "^[^\\u0000]+$", description: "private-client.<client id>; 403 for any other." },
  });
  return {
    tags: ["Sockets"],
    operationId: "channelAuth",
    summary: "A signature for one's own private channel (Pusher)",
    ...BEARER,
    requestBody: { required: true, content: jsonBody(body) },
    responses: { ...answer("What pusher:subscribe needs.", ref("ChannelAuth")), ...failures(...BODY_FAILURES, 403) },
  };
}
