import { Pool } from "undici";

/** Kept connections to one server that the operator named: many small calls, so none of them waits for a handshake. */
export interface EventPool extends AsyncDisposable {
  /** POSTs JSON to an address of the pool's origin; redirects are answers. Resolves to the status. @throws what the network says, or `signal.reason` */
  post(url: string, body: string, signal: AbortSignal): Promise<number>;
}

export function openEventPool(url: string, { connections }: { readonly connections: number }): EventPool {
  const pool = new Pool(new URL(url).origin, { connections });
  return {
    post: async (address, body, signal) => {
      const { pathname, search } = new URL(address);
      const headers = { "Content-Type": "application/json" };
      const answer = await pool.request({ method: "POST", path: pathname + search, headers, body, signal });
      await answer.body.dump();
      return answer.statusCode;
    },
    [Symbol.asyncDispose]: () => pool.destroy(),
  };
}
