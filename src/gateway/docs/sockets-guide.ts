import type { Schema } from "../openapi/schema.ts";
import { PUSHER_CODES } from "../../protocol/pusher.ts";
import { describeSchema } from "./describe-schema.ts";
import type { GuideFacts } from "./guides.ts";
import { code, codeBox, escapeHtml, prose, tableBox } from "./html.ts";

/** The channel, its right, its events. */
export function socketsGuide({ publicUrl, appKey, elsewhere, schemas, resolve }: GuideFacts): string {
  const url = new URL(publicUrl);
  const isSecure = url.protocol === "https:";
  const port = url.port === "" ? (isSecure ? "443" : "80") : url.port;
  const where = elsewhere
    ? "<p>Events go to the operator's own Pusher server: ask for its address and app key. The channel and the events are the same.</p>"
    : `<p>The socket speaks the Pusher protocol, versions 5 to 7: any client of Pusher, Soketi or Laravel Echo connects to <code>${escapeHtml(publicUrl.replace(/^http/, "ws"))}/app/${escapeHtml(appKey)}?protocol=7</code>.</p>`;
  const properties = (resolve(schemas["RequestStatusUpdated"] ?? {})["properties"] ?? {}) as Readonly<Record<string, Schema>>;
  return `${where}
<p>Your channel is <code>private-client.&lt;client id&gt;</code>; the client id is the part of your key before the <code>|</code>. A signature from <a href="#channelAuth">POST /broadcasting/auth</a> gives the right to it, and to no other.</p>
${codeBox("pusher-js", example({ host: url.hostname, port, isSecure, appKey, publicUrl }))}
<h3 id="socket-event">request.status.updated</h3>
${tableBox(
  "Fields of request.status.updated",
  ["field", "value"],
  Object.entries(properties).map(([name, schema]) => [code(name), prose(describeSchema(schema, resolve))]),
)}
${codeBox("An event's data", `{"request_id": "7c3b4f0e-5d2a-4c1b-9a77-1f0f5f3c9d10", "status": "in_progress", "progress": "45.50", "preview": "data:image/jpeg;base64,...", "result_url": null}`)}
<p>A preview comes at most four times a second. A slow connection gets the newest preview only, and every end.</p>
<h3 id="socket-replay">What a subscription tells again</h3>
<p>Who subscribes is first told the present state: of all requests that run, and of those that ended within the last 30 seconds, since they may have ended while it submitted or reconnected. Such an event has <code>"replayed": true</code>, and may be one that the client has seen; a new event does not have the field. What happened earlier is in <a href="#listRequests">the list</a>.</p>
<h3 id="socket-limits">Limits and ends</h3>
<p>A connection that subscribes to nothing is closed after 30 seconds. A silent one is asked with <code>pusher:ping</code> after 30 seconds, and closed when it does not answer. Client events are refused. Codes below 4100 mean: do not reconnect; 4100 to 4199: reconnect later; 4200 on: reconnect at once.</p>
${tableBox("Codes of a close or an error", ["code", "meaning"], closes())}`;
}

function closes(): readonly (readonly string[])[] {
  return [...new Set(Object.values(PUSHER_CODES).map(({ code: number, message }) => `${number}\n${message}`))]
    .map((text) => text.split("\n"))
    .toSorted()
    .map(([number = "", message = ""]) => [code(number), escapeHtml(message)]);
}

function example(options: {
  readonly host: string;
  readonly port: string;
  readonly isSecure: boolean;
  readonly appKey: string;
  readonly publicUrl: string;
}): string {
  const { host, port, isSecure, appKey, publicUrl } = options;
  return `import Pusher from "pusher-js";

const key = "<id>|<secret>";
const pusher = new Pusher("${appKey}", {
  cluster: "", wsHost: "${host}", wsPort: ${port}, wssPort: ${port}, forceTLS: ${isSecure}, enabledTransports: ["ws", "wss"],
  channelAuthorization: {
    endpoint: "${publicUrl}/broadcasting/auth",
    headers: { Authorization: "Bearer " + key },
  },
});
pusher.subscribe("private-client." + key.split("|")[0])
  .bind("request.status.updated", (update) => console.log(update.request_id, update.status, update.progress));`;
}
