/** A Lua script with its keys and arguments, to be run by whoever has the connection. */
export interface RedisStep {
  readonly lua: string;
  readonly keys: readonly string[];
  readonly args: readonly (string | number)[];
}
