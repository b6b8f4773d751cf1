import { resolve } from "node:path";
import type { MemoryShare } from "../core/device-fit.ts";
import type { z } from "zod";
import { BUILT_IN_PROVIDERS } from "../protocol/runtime-options.ts";

/** Reads one setting's text. `expected` is what a reader is told when `parse` throws, with the message of a NotThis beside it. */
export interface Parser<T> {
  /** Completes "expected ...". */
  readonly expected: string;
  readonly parse: (text: string) => T;
}

/** A refusal. Its message, if there is one, says more than `expected` and is told beside it. */
export class NotThis extends Error {}

function check<T>(value: T | undefined): T {
  if (value === undefined) throw new NotThis();
  return value;
}

export function text(expected: string, pattern?: RegExp): Parser<string> {
  return { expected, parse: (raw) => check(pattern === undefined || pattern.test(raw) ? raw : undefined) };
}

export function oneOf<const V extends readonly [string, ...string[]]>(values: V): Parser<V[number]> {
  return { expected: `one of ${values.join(", ")}`, parse: (raw) => check(values.find((value) => value === raw.toLowerCase())) };
}

export function integer(min: number, max: number): Parser<number> {
  return {
    expected: `a whole number from ${min} to ${max}`,
    parse: (raw) => {
      const value = /^-?\d+$/.test(raw) ? Number(raw) : Number.NaN;
      return check(value >= min && value <= max ? value : undefined);
    },
  };
}

const TRUE = new Set(["1", "true", "yes", "on"]);
const FALSE = new Set(["0", "false", "no", "off"]);

export const flag: Parser<boolean> = {
  expected: "1, true, yes, on or 0, false, no, off",
  parse: (raw) => {
    const word = raw.toLowerCase();
    return check(TRUE.has(word) ? true : FALSE.has(word) ? false : undefined);
  },
};

const MS_PER: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** The longest delay that Node's timers can hold (2^31-1 ms); a longer one would fire at once. */
const MAX_TIMER_MS = 2_147_483_647;

/** Milliseconds from `30s`, `1.5h` or a bare number of milliseconds. */
export function duration(minMs: number, maxMs: number = MAX_TIMER_MS): Parser<number> {
  return {
    expected: `a duration such as 1500ms, 30s, 10m, 2h or 3d (a bare number is milliseconds), ${sayMs(minMs)} to ${sayMs(maxMs)}`,
    parse: (raw) => {
      const value = scaled(raw, /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?$/i, MS_PER, "ms");
      return check(value >= minMs && value <= maxMs ? value : undefined);
    },
  };
}

/** As `duration`, and `never` for null. */
export function durationOrNever(minMs: number): Parser<number | null> {
  const inner = duration(minMs);
  return { expected: `${inner.expected}, or never`, parse: (raw) => (raw.toLowerCase() === "never" ? null : inner.parse(raw)) };
}

const KIB = 1_024;
const BYTES_PER: Readonly<Record<string, number>> = {
  b: 1,
  k: KIB,
  kib: KIB,
  kb: 1e3,
  m: KIB ** 2,
  mib: KIB ** 2,
  mb: 1e6,
  g: KIB ** 3,
  gib: KIB ** 3,
  gb: 1e9,
  t: KIB ** 4,
  tib: KIB ** 4,
  tb: 1e12,
};

/** Bytes from `64MiB`, `1.5g`, `2GB` (10^9) or a bare number. */
export function bytes(min: number): Parser<number> {
  return {
    expected: `a size such as 65536, 64MiB, 2GiB or 2GB, at least ${min} bytes`,
    parse: (raw) => {
      const value = scaled(raw, /^(\d+(?:\.\d+)?)\s*([kmgt]?i?b|[kmgt])?$/i, BYTES_PER, "b");
      return check(value >= min && Number.isSafeInteger(value) ? value : undefined);
    },
  };
}

/** `8GiB`, or `80%` of the whole. */
export const memoryShare: Parser<MemoryShare> = {
  expected: "a size such as 8GiB or 12GB, or a share of the device such as 80%, above 0 and at most 100%",
  parse: (raw) => {
    const percent = /^(\d+(?:\.\d+)?)\s*%$/.exec(raw.trim())?.[1];
    if (percent === undefined) return { bytes: bytes(1).parse(raw) };
    const share = Number(percent) / 100;
    return { share: check(share > 0 && share <= 1 ? share : undefined) };
  },
};

function scaled(raw: string, pattern: RegExp, factors: Readonly<Record<string, number>>, bare: string): number {
  const match = pattern.exec(raw.trim());
  const factor = factors[(match?.[2] ?? bare).toLowerCase()];
  return match?.[1] === undefined || factor === undefined ? Number.NaN : Math.round(Number(match[1]) * factor);
}

function sayMs(ms: number): string {
  if (ms === 0) return "0";
  const unit = Object.entries(MS_PER)
    .toReversed()
    .find(([, factor]) => ms >= factor);
  return unit === undefined ? `${ms}ms` : `${Math.floor(ms / unit[1])}${unit[0]}`;
}

/** Items between separators; blanks around them and empty ones are dropped. A text of separators alone is refused: it would choose nothing. */
export function list<T>(separator: string, item: Parser<T>, what: string): Parser<readonly T[]> {
  return {
    expected: `${what}, separated by "${separator}"`,
    parse: (raw) => {
      const items = raw.split(separator).map((part) => part.trim());
      const kept = items.filter((part) => part !== "").map((part) => item.parse(part));
      check(kept.length > 0 || raw === "" ? kept : undefined);
      return Object.freeze(kept);
    },
  };
}

/** A path, made absolute from the working folder. */
export const path: Parser<string> = {
  expected: "a path",
  parse: (raw) => check(raw.includes("\0") ? undefined : resolve(raw)),
};

/** A URL of one of the schemes, kept as it was written. */
export function url(schemes: readonly string[], example: string): Parser<string> {
  return {
    expected: `a URL such as ${example}`,
    parse: (raw) => check(URL.canParse(raw) && schemes.includes(new URL(raw).protocol) ? raw : undefined),
  };
}

/** Where a Redis is, in the forms that state/connect-redis.ts opens. Sentinel addresses name several hosts, which no URL may. */
export const redisUrl: Parser<string> = {
  expected:
    "a URL such as redis://user:password@host:6379/0, rediss://host:6380, unix:/run/redis.sock or redis+sentinel://host:26379,host:26379/master-name",
  parse: (raw) => {
    if (/^redis\+sentinel:\/\/[^/?]+\/[^/?]+/.test(raw)) return raw;
    return check(URL.canParse(raw) && ["redis:", "rediss:", "unix:"].includes(new URL(raw).protocol) ? raw : undefined);
  },
};

/** JSON that a schema takes; what is wrong with it is told. */
export function json<T>(schema: z.ZodType<T>, expected: string): Parser<T> {
  return {
    expected,
    parse: (raw) => {
      let value: unknown;
      try {
        value = JSON.parse(raw);
      } catch (thrown) {
        throw new NotThis((thrown as Error).message, { cause: thrown });
      }
      const parsed = schema.safeParse(value);
      if (parsed.success) return parsed.data;
      throw new NotThis(parsed.error.issues.map((issue) => `${issue.path.join(".") || "it"}: ${issue.message}`).join("; "));
    },
  };
}

/** `name=path` entries; paths are made absolute from the working folder. */
export const namedPaths: Parser<Readonly<Record<string, string>>> = {
  expected:
    'names and paths such as openvino=/opt/ep/libplugin.so, separated by ","; a name is 1 to 32 of a-z 0-9 _ -, not a built-in provider\'s',
  parse: (raw) => {
    const pairs = raw.split(",").map((pair) => {
      const [, name, place] = check(/^\s*([a-z][a-z0-9_-]{0,31})=(\S.*)$/.exec(pair) ?? undefined);
      return [check(name), path.parse(check(place).trim())] as const;
    });
    const names = new Set(pairs.map(([name]) => name));
    check(names.size === pairs.length && ![...names].some((name) => BUILT_IN_PROVIDERS.has(name)) ? true : undefined);
    return Object.freeze(Object.fromEntries(pairs));
  },
};
