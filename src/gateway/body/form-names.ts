/** A form's value, or what its bracketed names put together. */
type Value = unknown;

/** `loras[0][name]`: a name, and what follows it in brackets. */
const BRACKETED = /^([^[\]]+)((?:\[[^[\]]*\])+)$/;
const NEVER: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);
/** Deeper and further names are no part of any request of ours. */
const MAX_PARTS = 4;
const MAX_INDEX = 10_000;

/** A field's name without what follows in brackets: `image`, `images[]`, `images[0]`, `loras[0][name]`. */
export function baseName(field: string): string {
  return BRACKETED.exec(field)?.[1] ?? field;
}

/**
 * Entries of a body as one record. A name that comes several times has a list, and so has `name[]`, however often it came. `name[0]` and
 * `name[0][part]` build lists and objects, as PHP, jQuery and axios write them. Prototype names are no fields of anybody.
 */
export function grouped(entries: readonly (readonly [string, Value])[]): Readonly<Record<string, Value>> {
  const fields = new Map<string, Value>();
  const trees = new Map<string, Map<string, Value>>();
  for (const [raw, value] of entries) {
    const [, name = raw, brackets = ""] = BRACKETED.exec(raw) ?? [];
    const parts = brackets === "" ? [] : brackets.slice(1, -1).split("][");
    if ([name, ...parts].some((part) => NEVER.has(part))) continue;
    if (parts.length === 0) fields.set(name, fields.has(name) ? [...listOf(fields.get(name)), value] : value);
    else if (parts.length === 1 && parts[0] === "")
      fields.set(name, [...(fields.has(name) ? listOf(fields.get(name)) : []), ...listOf(value)]);
    else if (parts.length > MAX_PARTS) fields.set(raw, value);
    else grow(trees, name, parts, value);
  }
  for (const [name, tree] of trees)
    fields.set(name, fields.has(name) ? [...listOf(fields.get(name)), ...listOf(built(tree))] : built(tree));
  return Object.fromEntries(fields);
}

function grow(trees: Map<string, Map<string, Value>>, name: string, parts: readonly string[], value: Value): void {
  let tree = trees.get(name) ?? new Map<string, Value>();
  trees.set(name, tree);
  for (const [at, part] of parts.entries()) {
    const key = part === "" ? String(tree.size) : part;
    if (at === parts.length - 1) {
      tree.set(key, value);
      return;
    }
    const inner = tree.get(key);
    const next = inner instanceof Map ? (inner as Map<string, Value>) : new Map<string, Value>();
    tree.set(key, next);
    tree = next;
  }
}

/** A list where all keys are numbers, in their order; else an object. */
function built(value: Value): Value {
  if (!(value instanceof Map)) return value;
  const entries = [...(value as Map<string, Value>)].map(([key, inner]) => [key, built(inner)] as const);
  const isList = entries.every(([key]) => /^\d+$/.test(key) && Number(key) <= MAX_INDEX);
  return isList ? entries.toSorted(([a], [b]) => Number(a) - Number(b)).map(([, inner]) => inner) : Object.fromEntries(entries);
}

function listOf(value: Value): readonly Value[] {
  return Array.isArray(value) ? (value as readonly Value[]) : [value];
}
