import { failures, json, nullable, object, pathParameter, PUBLIC, query, ref, uuid, type Schema } from "./schema.ts";

const text: Schema = { type: "string" };
const frame = (event: string, data: Schema, rest: Readonly<Record<string, Schema>> = {}): Schema =>
  object({ event: { type: "string", enum: [event] }, ...rest, data });
/** Pusher puts the data of most events into the frame as a JSON text. */
const jsonText = (schema: Schema): Schema => ({ type: "string", contentMediaType: "application/json", contentSchema: schema });
const channel: Readonly<Record<string, Schema>> = { channel: { type: "string", pattern: "^private-client\\.[a-z0-9][a-z0-9_-]{0,31}$" } };

/** What goes over the Pusher socket, by name. */
export const SOCKET_SCHEMAS: Readonly<Record<string, Schema>> = {
  RequestStatusUpdated: object(
    {
      request_id: uuid,
      status: {
        type: "string",
        enum: ["processing", "in_progress", "done", "error"],
        description: "processing comes once, when a worker begins; then in_progress.",
      },
      progress: { type: "string", pattern: "^[0-9]{1,3}\\.[0-9]{2}$", description: 'Percent with two decimals: "45.50".' },
      preview: nullable("string", { description: "data:image/jpeg;base64,..., at most 256 pixels a side" }),
      result_url: nullable("string", { format: "uri" }),
      error_code: ref("ErrorCode"),
      error_message: text,
      error_reason: text,
      error_field: nullable("string"),
      replayed: {
        type: "boolean",
        description: "The state as it was at a subscription or after an outage, told again; absent in what is new.",
      },
    },
    ["error_code", "error_message", "error_reason", "error_field", "replayed"],
  ),
  SocketConnected: frame(
    "pusher:connection_established",
    jsonText(object({ socket_id: { type: "string", pattern: "^[0-9]+\\.[0-9]+$" }, activity_timeout: { type: "integer" } })),
  ),
  SocketSubscribed: frame("pusher_internal:subscription_succeeded", text, channel),
  SocketSubscriptionError: frame("pusher:subscription_error", object({ type: text, error: text, status: { type: "integer" } }), {
    channel: text,
  }),
  SocketUpdate: frame("request.status.updated", jsonText(ref("RequestStatusUpdated")), channel),
  SocketPing: frame("pusher:ping", text),
  SocketPong: frame("pusher:pong", text),
  SocketError: frame("pusher:error", object({ code: { type: "integer" }, message: text })),
  SocketSubscribe: frame("pusher:subscribe", object({ ...channel, auth: { ...text, description: "`auth` of POST /broadcasting/auth" } })),
  SocketUnsubscribe: frame("pusher:unsubscribe", object(channel)),
};

/** The address of the socket, as far as HTTP goes. */
export function socketPaths({ elsewhere }: { readonly elsewhere: boolean }): Readonly<Record<string, Schema>> {
  if (elsewhere) return {};
  const upgrade = { description: "It is a socket: ask with an upgrade.", content: json(ref("Problem")) };
  const get = {
    tags: ["Sockets"],
    operationId: "socket",
    summary: "The Pusher socket; frames are described in `x-socket`",
    ...PUBLIC,
    parameters: [
      pathParameter("appKey", { type: "string", minLength: 1 }, "The app key of this server."),
      query("protocol", { type: "string" }, { description: "5, 6 or 7." }),
    ],
    responses: { 101: { description: "Frames follow." }, 426: upgrade, ...failures(400, 404, 500, 503) },
  };
  return { "/app/{appKey}": { get } };
}

/** Where the socket is and what it says: OpenAPI has no place for it, so it stands in an extension. */
export function socketDescription(options: { readonly publicUrl: string; readonly appKey: string; readonly elsewhere: boolean }): Schema {
  const frames = (names: readonly string[]): readonly Schema[] => names.map(ref);
  return {
    protocol: "Pusher Channels, versions 5 to 7",
    ...(options.elsewhere
      ? { description: "Events go to the operator's own Pusher server." }
      : { url: `${options.publicUrl.replace(/^http/, "ws")}/app/${options.appKey}?protocol=7` }),
    channel: "private-client.<client id>",
    receive: frames([
      "SocketConnected",
      "SocketSubscribed",
      "SocketSubscriptionError",
      "SocketUpdate",
      "SocketPing",
      "SocketPong",
      "SocketError",
    ]),
    send: frames(["SocketSubscribe", "SocketUnsubscribe", "SocketPing", "SocketPong"]),
  };
}
