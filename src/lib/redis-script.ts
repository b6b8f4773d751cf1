import { createHash } from "node:crypto";
import type { RedisStep } from "./redis-step.ts";

type Argument = string | number;

/** Redis, as far as scripts go. */
interface ScriptServer {
  evalsha(sha1: string, keyCount: number, ...args: Argument[]): Promise<unknown>;
  eval(lua: string, keyCount: number, ...args: Argument[]): Promise<unknown>;
}

/** A Lua script that is sent once and called by its digest afterwards; a server that has forgotten it (restart) gets it again. */
export class RedisScript {
  readonly #lua: string;
  readonly #sha1: string;

  constructor(lua: string) {
    this.#lua = lua;
    this.#sha1 = createHash("sha1").update(lua).digest("hex");
  }

  /** As a step of a transaction, where there is no second try with the whole text. */
  step(keys: readonly string[], args: readonly Argument[]): RedisStep {
    return { lua: this.#lua, keys, args };
  }

  async run(redis: ScriptServer, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    try {
      return await redis.evalsha(this.#sha1, keys.length, ...keys, ...args);
    } catch (thrown) {
      if (!(thrown instanceof Error) || !thrown.message.startsWith("NOSCRIPT")) throw thrown;
      return redis.eval(this.#lua, keys.length, ...keys, ...args);
    }
  }
}

/** A hash as HGETALL gives it within a script: names and values in turn. */
export function hashFromPairs(pairs: readonly string[]): Readonly<Record<string, string>> {
  const hash: Record<string, string> = {};
  for (let index = 0; index + 1 < pairs.length; index += 2) hash[pairs[index] ?? ""] = pairs[index + 1] ?? "";
  return hash;
}
