import type { IncomingMessage } from "node:http";
import { isIPv4, isIPv6 } from "node:net";

/** An IPv6 host has at least a /64 to itself: its addresses count as one. */
const NETWORK_GROUPS = 4;

/**
 * Where a request comes from, as its sockets are counted: an IPv4 address, or the /64 of an IPv6 one. Behind a trusted proxy it is the last of
 * `X-Forwarded-For`, which the proxy itself wrote: what stands before it may be the client's invention.
 */
export function peerNetwork(request: Pick<IncomingMessage, "headers" | "socket">, trustProxy: boolean): string {
  const forwarded = trustProxy ? String(request.headers["x-forwarded-for"] ?? "") : "";
  const last = forwarded.slice(forwarded.lastIndexOf(",") + 1).trim();
  return networkOf(last) ?? networkOf(request.socket.remoteAddress ?? "") ?? "unknown";
}

/** Null for what is no address. A port behind it, which some proxies write, is ignored. */
export function networkOf(text: string): string | null {
  const [, bracketed, withPort] = /^\[([^\]]*)\](?::\d+)?$|^([\d.]+):\d+$/.exec(text) ?? [];
  const [address = ""] = (bracketed ?? withPort ?? text).split("%", 1);
  if (isIPv4(address)) return address;
  if (!isIPv6(address)) return null;
  const groups = groupsOf(address);
  const [high, low] = [groups[6] ?? 0, groups[7] ?? 0];
  const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xff_ff;
  if (isMapped) return [high >> 8, high & 0xff, low >> 8, low & 0xff].join(".");
  return `${groups
    .slice(0, NETWORK_GROUPS)
    .map((group) => group.toString(16))
    .join(":")}::/64`;
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): readonly number[] {
  // URL writes an embedded IPv4 address as two groups.
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = [], tail = []] = canonical.split("::").map((half) => (half === "" ? [] : half.split(":")));
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => "0");
  return [...head, ...zeros, ...tail].map((group) => Number.parseInt(group, 16));
}
