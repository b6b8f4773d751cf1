import { lookup, type LookupAddress } from "node:dns";
import type { LookupFunction } from "node:net";
import type { EgressPolicy } from "./egress-policy.ts";
import { FetchFailure } from "./fetch-failure.ts";

/** All addresses of a host, as the system resolves it. */
export type Resolve = (host: string) => Promise<readonly LookupAddress[]>;

/**
 * The look-up of a connection that is being made: the addresses that are judged are those that are connected to, so an answer that changes
 * between check and use (rebinding) gains nothing. One address that is not allowed spoils the whole answer.
 */
export function guardedLookup(policy: EgressPolicy, resolve: Resolve = resolveBySystem): LookupFunction {
  const judge = async (host: string): Promise<LookupAddress[]> => {
    const addresses = await resolve(host).catch((cause: unknown) => {
      throw new FetchFailure("network", `host ${host} was not found`, { cause });
    });
    const refused = addresses.find(({ address }) => !policy.allows(address));
    if (refused !== undefined)
      throw new FetchFailure("refused", `host ${host} has an address that is not public`, { address: refused.address });
    return [...addresses];
  };
  return (host, options, done) => void answer(judge(host), { host, wantsAll: options.all === true, done });
}

/** Tells the answer in the way in which a connection wants to hear it. */
async function answer(
  judged: Promise<LookupAddress[]>,
  to: { readonly host: string; readonly wantsAll: boolean; readonly done: Parameters<LookupFunction>[2] },
): Promise<void> {
  const { host, wantsAll, done } = to;
  let addresses: LookupAddress[];
  try {
    addresses = await judged;
  } catch (thrown) {
    done(thrown as FetchFailure, "", 0);
    return;
  }
  const [first] = addresses;
  if (first === undefined) done(new FetchFailure("network", `host ${host} has no address`), "", 0);
  else if (wantsAll) done(null, addresses);
  else done(null, first.address, first.family);
}

function resolveBySystem(host: string): Promise<readonly LookupAddress[]> {
  return new Promise((resolve, reject) => {
    lookup(host, { all: true }, (error, addresses) => {
      if (error === null) resolve(addresses);
      else reject(error);
    });
  });
}
