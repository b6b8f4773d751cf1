import ipaddr from "ipaddr.js";
import { AppError } from "../protocol/error.ts";

/** Decides about one address, literal or resolved. */
export interface EgressPolicy {
  allows(address: string): boolean;
}

type Range = readonly [address: ipaddr.IPv4 | ipaddr.IPv6, bits: number];

/** Public by number, private by meaning: the wire server of Azure, which hands out credentials to whoever asks from inside a machine. */
const METADATA: ReadonlySet<string> = new Set(["168.63.129.16"]);
/** The only part of IPv6 that is assigned to hosts of the internet; whatever lies outside (site-local, IPv4-compatible, ...) is refused. */
const GLOBAL_IPV6: Range = [ipaddr.IPv6.parse("2000::"), 3];

/** `::8.8.8.8` is an address of nobody; ipaddr.js takes it for 8.8.8.8. */
const IPV4_COMPATIBLE = /^::\d+\.\d+\.\d+\.\d+$/;

/**
 * Only public unicast addresses, and the ranges that the operator opened (DRYAPI_EGRESS_ALLOW). IPv4 inside IPv6 (`::ffff:10.0.0.1`) is judged
 * as the IPv4 address it is; other embeddings (NAT64, 6to4, Teredo) are refused whole.
 * @throws AppError CONFIG_INVALID for a range that is none
 */
export function createEgressPolicy(allow: readonly string[]): EgressPolicy {
  const opened = allow.map(parseRange);
  return {
    allows: (text) => {
      if (!ipaddr.isValid(text) || IPV4_COMPATIBLE.test(text)) return false;
      const address = ipaddr.process(text);
      if (opened.some((range) => isWithin(address, range))) return true;
      if (METADATA.has(address.toString()) || address.range() !== "unicast") return false;
      return address.kind() === "ipv4" || isWithin(address, GLOBAL_IPV6);
    },
  };
}

function parseRange(text: string): Range {
  try {
    const [address, bits] = ipaddr.parseCIDR(text);
    if (address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && bits >= 96) return [address.toIPv4Address(), bits - 96];
    return [address, bits];
  } catch (cause) {
    throw new AppError("CONFIG_INVALID", `DRYAPI_EGRESS_ALLOW has ${JSON.stringify(text)}, expected an address range such as 10.1.0.0/16`, {
      cause,
    });
  }
}

function isWithin(address: ipaddr.IPv4 | ipaddr.IPv6, [base, bits]: Range): boolean {
  if (address instanceof ipaddr.IPv4) return base instanceof ipaddr.IPv4 && address.match(base, bits);
  return base instanceof ipaddr.IPv6 && address.match(base, bits);
}
