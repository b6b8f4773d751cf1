import type { Parser } from "./parsers.ts";

export type Env = Readonly<Record<string, string | undefined>>;

/** What the defaults of other settings may build on. */
export interface DefaultFacts {
  readonly env: Env;
  readonly stateDir: string;
}

export type Program = "worker" | "gateway" | "courier" | "up" | "submit" | "clients" | "models" | "doctor";

export interface Setting<T> {
  readonly env: string;
  readonly group: string;
  readonly parser: Parser<T>;
  /** The default as an operator would write it; null = unset. */
  readonly fallback: string | null | ((facts: DefaultFacts) => string);
  /** How the documents call a default that depends on the machine. */
  readonly fallbackText?: string;
  readonly meaning: string;
  /** A URL whose password must not be shown. */
  readonly hidePassword?: true;
  /** Never shown. */
  readonly secret?: true;
  readonly programs: readonly Program[];
}

/** A setting that has a value always. */
export const has = <T>(row: Setting<T>): Setting<T> => row;
/** A setting that is null while it is unset. */
export const may = <T>(row: Omit<Setting<T>, "fallback">): Setting<T | null> => ({ ...row, fallback: null });

export const ALL: readonly Program[] = ["worker", "gateway", "courier", "up", "submit", "clients", "models", "doctor"];
export const RUN: readonly Program[] = ["worker", "up", "doctor"];
export const SERVE: readonly Program[] = ["worker", "gateway", "up", "doctor"];
export const REDIS: readonly Program[] = ["worker", "gateway", "courier", "up", "submit", "clients", "doctor"];
export const GATEWAY: readonly Program[] = ["gateway", "up"];
export const COURIER: readonly Program[] = ["gateway", "courier", "up"];
export const DAEMON: readonly Program[] = ["worker", "gateway", "courier", "up", "doctor"];
