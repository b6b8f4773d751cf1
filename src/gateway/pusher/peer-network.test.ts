import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { BlockList } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { networkOf, peerNetwork } from "./peer-network.ts";

test("an IPv4 address counts alone, an IPv6 one with its /64, however it is written", () => {
  for (const [text, network] of [
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["::FFFF:c000:207", "192.0.2.7"],
    ["192.0.2.7:4711", "192.0.2.7"],
    ["2001:db8:0:7::1", "2001:db8:0:7::/64"],
    ["2001:0DB8:0000:0007:ffff:ffff:ffff:ffff", "2001:db8:0:7::/64"],
    ["[2001:db8:0:7::1]:4711", "2001:db8:0:7::/64"],
    ["[2001:db8:0:7::1]", "2001:db8:0:7::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["64:ff9b::192.0.2.7", "64:ff9b:0:0::/64"],
  ])
    assert.equal(networkOf(text ?? ""), network, text);
  for (const text of ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "::1::", "[1.2.3.4", "host.example"])
    assert.equal(networkOf(text), null, text);
});

test("two IPv6 addresses count together just when Node finds both in one /64", () => {
  fc.assert(
    fc.property(fc.ipV6(), fc.ipV6(), fc.boolean(), (one, other, isNear) => {
      const second = isNear ? `${networkOf(one)?.split("::/64")[0] ?? ""}:1:2:3:4` : other;
      const subnet = new BlockList();
      // A mapped address is an IPv4 one, with no subnet of this kind.
      if (networkOf(one)?.includes(".") === true || networkOf(second)?.includes(".") === true) return;
      subnet.addSubnet(one, 64, "ipv6");
      assert.equal(networkOf(one) === networkOf(second), subnet.check(second, "ipv6"), `${one} and ${second}`);
    }),
  );
});

test("only a trusted proxy's own word is believed", () => {
  const from = (forwarded: string | undefined, remoteAddress: string | undefined = "203.0.113.9"): IncomingMessage =>
    ({ headers: { "x-forwarded-for": forwarded }, socket: { remoteAddress } }) as unknown as IncomingMessage;
  assert.equal(peerNetwork(from("192.0.2.1"), false), "203.0.113.9");
  assert.equal(peerNetwork(from("192.0.2.1"), true), "192.0.2.1");
  assert.equal(peerNetwork(from("198.51.100.1, 192.0.2.1"), true), "192.0.2.1", "what stands before it is the client's word");
  for (const nothing of [undefined, "", "unknown", "192.0.2.1, "]) assert.equal(peerNetwork(from(nothing), true), "203.0.113.9");
  assert.equal(peerNetwork({ headers: {}, socket: {} } as unknown as IncomingMessage, true), "unknown");
});
