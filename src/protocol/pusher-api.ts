import { createHash, createHmac } from "node:crypto";
import { AppError } from "./error.ts";

/** A Pusher-compatible server that takes events over its HTTP API. */
export interface RealtimeTarget {
  /** `http(s)://host:port` */
  readonly base: string;
  readonly appId: string;
  readonly key: string;
  readonly secret: string;
}

/** `pusher://key:secret@host:port/app_id`; pushers: is over TLS. @throws AppError CONFIG_INVALID, without the secret */
export function parseRealtime(text: string): RealtimeTarget {
  const url = URL.parse(text);
  const appId = url?.pathname.slice(1) ?? "";
  if (url === null || url.host === "" || url.username === "" || url.password === "" || !/^[\w-]+$/.test(appId))
    throw new AppError(
      "CONFIG_INVALID",
      "DRYAPI_REALTIME lacks key, secret, host or app id, expected pusher://key:secret@host:port/app_id",
    );
  const scheme = url.protocol === "pushers:" ? "https" : "http";
  return { base: `${scheme}://${url.host}`, appId, key: decodeURIComponent(url.username), secret: decodeURIComponent(url.password) };
}

/** A call of `POST /apps/<id>/events`, signed: HMAC-SHA256 over method, path and query, which holds the body's MD5. */
export function eventCall(
  target: RealtimeTarget,
  event: { readonly name: string; readonly channel: string; readonly data: string },
  nowS: number,
): { readonly url: string; readonly body: string } {
  const path = `/apps/${target.appId}/events`;
  const body = JSON.stringify({ name: event.name, channels: [event.channel], data: event.data });
  // Sorted by name, as they are signed.
  const fields = {
    auth_key: target.key,
    auth_timestamp: String(nowS),
    auth_version: "1.0",
    body_md5: createHash("md5").update(body).digest("hex"),
  };
  const signed = Object.entries(fields).map(([name, value]) => `${name}=${value}`);
  const signature = createHmac("sha256", target.secret)
    .update(`POST\n${path}\n${signed.join("&")}`)
    .digest("hex");
  const query = new URLSearchParams({ ...fields, auth_signature: signature });
  return { url: `${target.base}${path}?${query.toString()}`, body };
}
