/**
 * Reads a Dockerfile as the reference documents it, strictly: what a builder would refuse, and what our replay cannot do (other
 * instructions, other flags, here-documents, ONBUILD, SHELL, wildcards), is an error that names file and line.
 */

export interface Instruction {
  readonly line: number;
  /** Upper case: `RUN`. */
  readonly op: string;
  /** `{ from: "build" }` of `--from=build`. */
  readonly flags: Readonly<Record<string, string>>;
  /** What follows the flags, continuation lines joined. */
  readonly rest: string;
}

export interface Stage {
  readonly line: number;
  readonly name: string;
  /** As written, with its variables. */
  readonly base: string;
  readonly steps: readonly Instruction[];
}

export interface Dockerfile {
  readonly path: string;
  /** ARG lines before the first FROM: only FROM sees them. */
  readonly globals: readonly Instruction[];
  readonly stages: readonly Stage[];
}

export type Variables = Readonly<Record<string, string>>;

/** Each instruction with the flags that the replay understands. */
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  ARG: [],
  CMD: [],
  COPY: ["from", "chown", "chmod"],
  ENTRYPOINT: [],
  ENV: [],
  EXPOSE: [],
  FROM: [],
  HEALTHCHECK: ["interval", "timeout", "start-period", "retries"],
  LABEL: [],
  RUN: [],
  STOPSIGNAL: [],
  USER: [],
  VOLUME: [],
  WORKDIR: [],
};

/** @throws Error with path and line for whatever is not understood */
export function parseDockerfile(path: string, text: string): Dockerfile {
  const globals: Instruction[] = [];
  const stages: { line: number; name: string; base: string; steps: Instruction[] }[] = [];
  for (const { line, text: logical } of logicalLines(path, text)) {
    const instruction = parseInstruction(path, line, logical);
    const stage = stages.at(-1);
    if (instruction.op === "FROM") {
      const words = instruction.rest.split(/\s+/);
      const [base, as, name] = words;
      if (base === undefined || (words.length !== 1 && !(words.length === 3 && as?.toUpperCase() === "AS")))
        throw new Error(`${path}:${line}: FROM ${instruction.rest}: expected FROM <image> [AS <name>]`);
      const own = name ?? String(stages.length);
      if (stages.some((other) => other.name === own)) throw new Error(`${path}:${line}: there is a stage ${own} already`);
      stages.push({ line, name: own, base, steps: [] });
    } else if (stage !== undefined) stage.steps.push(instruction);
    else if (instruction.op === "ARG") globals.push(instruction);
    else throw new Error(`${path}:${line}: ${instruction.op} before the first FROM`);
  }
  if (stages.length === 0) throw new Error(`${path}: has no FROM`);
  return { path, globals, stages };
}

/** Comments and empty lines go, within a continued instruction too; a line that ends with a backslash goes on with the next. */
function logicalLines(path: string, text: string): { line: number; text: string }[] {
  const found: { line: number; text: string }[] = [];
  let open: { line: number; text: string } | null = null;
  for (const [index, raw] of text.split("\n").entries()) {
    if (index === 0 && /^#\s*(syntax|escape|check)\s*=/i.test(raw)) throw new Error(`${path}:1: parser directives are not understood`);
    if (/^\s*(#|$)/.test(raw)) continue;
    const goesOn = /\\\s*$/.test(raw);
    open ??= { line: index + 1, text: "" };
    open.text += goesOn ? raw.replace(/\\\s*$/, "") : raw;
    if (goesOn) continue;
    found.push({ line: open.line, text: open.text.trim() });
    open = null;
  }
  if (open !== null) throw new Error(`${path}:${open.line}: the instruction goes on past the end of the file`);
  return found;
}

function parseInstruction(path: string, line: number, text: string): Instruction {
  const [, word = "", after = ""] = /^(\S+)\s*(.*)$/s.exec(text) ?? [];
  const op = word.toUpperCase();
  const allowed = KNOWN[op];
  if (allowed === undefined) throw new Error(`${path}:${line}: ${word}: not an instruction that the replay understands`);
  const flags: Record<string, string> = {};
  let rest = after;
  for (;;) {
    const [whole, name, value] = /^--([\w-]+)(?:=(\S+))?\s*/.exec(rest) ?? [];
    if (whole === undefined || name === undefined) break;
    if (!allowed.includes(name) || value === undefined)
      throw new Error(`${path}:${line}: ${op} --${name}: not a flag that the replay understands`);
    flags[name] = value;
    rest = rest.slice(whole.length);
  }
  if (rest === "") throw new Error(`${path}:${line}: ${op} says nothing`);
  if ((op === "RUN" || op === "COPY") && /(^|\s)<<-?["']?\w/.test(rest))
    throw new Error(`${path}:${line}: here-documents are not understood`);
  return { line, op, flags, rest };
}

/** The words of an exec form (`["a", "b"]`), or null for the shell form. A broken exec form would run as shell words: refused. */
export function execForm(rest: string): readonly string[] | null {
  if (!rest.startsWith("[")) return null;
  const words: unknown = JSON.parse(rest);
  if (!Array.isArray(words) || words.length === 0 || !words.every((word) => typeof word === "string"))
    throw new Error(`${rest}: expected a JSON array of texts`);
  return words;
}

/** `$name`, `${name}`, `${name:-word}` and `${name:+word}`, as FROM, COPY, ENV and the like have them. An unknown name is empty in a builder; here it is an error. */
export function expand(text: string, variables: Variables): string {
  return text.replace(
    /\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})/g,
    (whole, plain?: string, braced?: string, sign?: string, word?: string) => {
      const value = variables[plain ?? braced ?? ""];
      if (sign === "-") return value === undefined || value === "" ? (word ?? "") : value;
      if (sign === "+") return value === undefined || value === "" ? "" : (word ?? "");
      if (value === undefined) throw new Error(`${whole} in ${text}: no ARG or ENV of this stage has that name`);
      return value;
    },
  );
}

/** `a=1 b="two words"` of ENV and LABEL. */
export function pairs(rest: string, variables: Variables): Record<string, string> {
  const found: Record<string, string> = {};
  let left = rest;
  while (left !== "") {
    const [whole, name, double, single, bare] = /^([\w.-]+)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s"'\\]*))(?:\s+|$)/.exec(left) ?? [];
    if (whole === undefined || name === undefined) throw new Error(`${left}: expected name=value or name="value"`);
    found[name] = single ?? expand((double ?? bare ?? "").replaceAll(/\\(.)/g, "$1"), variables);
    left = left.slice(whole.length);
  }
  return found;
}
