import { createHmac, timingSafeEqual } from "node:crypto";

/**
 * The Pusher Channels protocol as far as private channels need it. `data` of what a server sends is a JSON string. For private channels the
 * versions differ in little (pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol): from 5 on a client answers
 * pings; up to 5 it is told of a close by `pusher:error` first, and pysher (6) goes by that, too, so all are; 7 is given `activity_timeout`.
 * The Java (Android) and .NET libraries speak 5, pysher 6, pusher-js, laravel-echo and Swift 7.
 */
export const PUSHER_PROTOCOLS = [5, 6, 7] as const;

export type PusherProtocol = (typeof PUSHER_PROTOCOLS)[number];

/** Codes that a close has: below 4100 a client gives up, 4100 to 4199 it waits before it reconnects, from 4200 on it does at once. */
export const PUSHER_CODES = {
  unknownApp: { code: 4001, message: "Application does not exist" },
  overQuota: { code: 4004, message: "Application is over connection quota" },
  badVersion: { code: 4006, message: "Invalid version string format" },
  protocolVersion: { code: 4007, message: "Unsupported protocol version" },
  noProtocol: { code: 4008, message: "No protocol version supplied" },
  unauthorized: { code: 4009, message: "Connection is unauthorized" },
  overCapacity: { code: 4100, message: "Over capacity" },
  reconnect: { code: 4200, message: "Generic reconnect immediately" },
  pongMissing: { code: 4201, message: "Pong reply not received" },
  /** A client that subscribes later comes back at once; 4009 would make pusher-js give up. */
  unsubscribed: { code: 4202, message: "Closed after inactivity: no channel was subscribed to in time" },
  /** Told, without a close. */
  badMessage: { code: 4200, message: "Invalid message format" },
  clientEvent: { code: 4301, message: "Client events are not accepted" },
} as const;

export type PusherProblem = (typeof PUSHER_CODES)[keyof typeof PUSHER_CODES];

/** Bytes of one message of a client. */
export const MAX_CLIENT_MESSAGE = 10_240;

export type ClientMessage =
  | { readonly event: "ping" }
  | { readonly event: "pong" }
  | { readonly event: "subscribe"; readonly channel: string; readonly auth: string }
  | { readonly event: "unsubscribe"; readonly channel: string }
  | { readonly event: "client" }
  | { readonly event: "unknown" };

/** The version that a connection's query asks for, or why it cannot be had. */
export function protocolOf(query: string | null): PusherProtocol | PusherProblem {
  if (query === null) return PUSHER_CODES.noProtocol;
  if (!/^\d+$/.test(query)) return PUSHER_CODES.badVersion;
  return PUSHER_PROTOCOLS.find((version) => version === Number(query)) ?? PUSHER_CODES.protocolVersion;
}

/** Null when it is no message of the protocol at all. */
export function parseClientMessage(text: string): ClientMessage | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || !("event" in value) || typeof value.event !== "string") return null;
  const data = fieldsOf("data" in value ? value.data : undefined);
  const fieldOf = (name: string): string => (typeof data[name] === "string" ? data[name] : "");
  switch (value.event) {
    case "pusher:ping":
      return { event: "ping" };
    case "pusher:pong":
      return { event: "pong" };
    case "pusher:subscribe":
      return { event: "subscribe", channel: fieldOf("channel"), auth: fieldOf("auth") };
    case "pusher:unsubscribe":
      return { event: "unsubscribe", channel: fieldOf("channel") };
    default:
      return { event: value.event.startsWith("client-") ? "client" : "unknown" };
  }
}

/** `data` is an object, or, as a server sends it, its JSON. */
function fieldsOf(data: unknown): Readonly<Record<string, unknown>> {
  let fields = data;
  try {
    if (typeof data === "string") fields = JSON.parse(data);
  } catch {
    // A text without fields, such as pysher's "" in a ping.
  }
  return typeof fields === "object" && fields !== null ? (fields as Record<string, unknown>) : {};
}

export function frame(event: string, data: unknown, channel?: string): string {
  return JSON.stringify({
    event,
    ...(channel === undefined ? {} : { channel }),
    data: typeof data === "string" ? data : JSON.stringify(data),
  });
}

/** A subscription that is refused; the connection stays. The .NET library waits for the event under another name, for ever. */
export function refusalFrames(protocol: PusherProtocol, channel: string, error: string): readonly string[] {
  const names = ["pusher:subscription_error", ...(protocol === 5 ? ["pusher_internal:subscription_error"] : [])];
  return names.map((event) => JSON.stringify({ event, channel, data: { type: "AuthError", error, status: 401 } }));
}

export function establishedFrame(protocol: PusherProtocol, socketId: string, activityTimeoutS: number): string {
  const timeout = protocol >= 7 ? { activity_timeout: activityTimeoutS } : {};
  return frame("pusher:connection_established", { socket_id: socketId, ...timeout });
}

/** Errors and refusals alone carry their data as an object. */
export function errorFrame({ code, message }: PusherProblem): string {
  return JSON.stringify({ event: "pusher:error", data: { code, message } });
}

export function channelOf(client: string): string {
  return `private-client.${client}`;
}

/** Null for a channel that is no client's. */
export function clientOfChannel(channel: string): string | null {
  return /^private-client\.([a-z0-9][a-z0-9_-]{0,31})$/.exec(channel)?.[1] ?? null;
}

export const SOCKET_ID = /^\d+\.\d+$/;

/** `<app key>:<hex HMAC-SHA256(app secret, socket id ":" channel)>` */
export function channelAuth(app: { readonly key: string; readonly secret: string }, socketId: string, channel: string): string {
  return `${app.key}:${createHmac("sha256", app.secret).update(`${socketId}:${channel}`).digest("hex")}`;
}

export function isChannelAuth(
  app: { readonly key: string; readonly secret: string },
  socketId: string,
  channel: string,
  auth: string,
): boolean {
  const wanted = Buffer.from(channelAuth(app, socketId, channel));
  const given = Buffer.from(auth);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}
