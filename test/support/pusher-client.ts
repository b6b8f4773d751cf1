import { createRequire } from "node:module";
import type { Options } from "pusher-js";
import { WAIT_MS } from "./system.ts";

/** What the tests use of pusher-js: its types cannot be named from a module. */
export interface PusherClient {
  subscribe(channel: string): { bind(event: string, listener: (data: never) => void): void };
  unsubscribe(channel: string): void;
  send_event(event: string, data: object): void;
  readonly connection: { readonly state: string; readonly socket_id: string; bind(event: string, listener: (data: never) => void): void };
  disconnect(): void;
}

// pusher-js has its Node build behind a CommonJS entry.
const Pusher = createRequire(import.meta.url)("pusher-js") as new (key: string, options: Options) => PusherClient;

/** Data of request.status.updated. */
export interface StatusUpdate {
  readonly request_id: string;
  readonly status: string;
  readonly progress: string;
  readonly preview: string | null;
  readonly result_url: string | null;
  readonly error_code?: string;
  readonly error_message?: string;
  readonly error_reason?: string;
  readonly error_field?: string | null;
  readonly replayed?: boolean;
}

/** The real pusher-js, as a page of somebody else configures it. `apiUrl` differs from `url` where a proxy stands before the sockets. */
export function openPusher(options: {
  readonly url: string;
  readonly key: string;
  readonly apiUrl?: string;
  readonly appKey?: string;
}): PusherClient {
  const { url, key, apiUrl = url, appKey = "dryapi" } = options;
  const { hostname, port } = new URL(url);
  return new Pusher(appKey, {
    wsHost: hostname,
    wsPort: Number(port),
    forceTLS: false,
    enabledTransports: ["ws"],
    cluster: "x",
    channelAuthorization: { endpoint: `${apiUrl}/broadcasting/auth`, transport: "ajax", headers: { Authorization: `Bearer ${key}` } },
  });
}

/** Resolves once subscribed; the updates of the channel come into the array as long as the client is connected. */
export async function subscribeUpdates(client: PusherClient, channel: string = "private-client.tester"): Promise<StatusUpdate[]> {
  const updates: StatusUpdate[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`no subscription to ${channel} within ${WAIT_MS} ms`)), WAIT_MS);
  const subscribed = client.subscribe(channel);
  subscribed.bind("request.status.updated", (update: StatusUpdate) => updates.push(update));
  subscribed.bind("pusher:subscription_succeeded", () => resolve());
  subscribed.bind("pusher:subscription_error", (error: unknown) => reject(new Error(`refused: ${JSON.stringify(error)}`)));
  await promise.finally(() => clearTimeout(timer));
  return updates;
}
