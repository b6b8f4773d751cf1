import { AppError } from "../../protocol/error.ts";

type Value = boolean | number | string;

/** Options as the library takes them and reports them: texts, flags as 1 and 0. */
export function optionTexts(options: Readonly<Record<string, Value | undefined>>): Readonly<Record<string, string>> {
  const given = Object.entries(options).filter((entry): entry is [string, Value] => entry[1] !== undefined);
  return Object.fromEntries(given.map(([key, value]) => [key, typeof value === "boolean" ? (value ? "1" : "0") : String(value)]));
}

/** Reads `key=value;key=value`, the form in which onnxruntime reports provider options. */
export function parseReport(report: string): ReadonlyMap<string, string> {
  const pairs = report.split(";").filter((pair) => pair.includes("="));
  return new Map(pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]));
}

/**
 * What was asked of a provider, against what it reports. An option that a version of onnxruntime takes and forgets shows here.
 * @throws AppError MODEL_UNSUPPORTED that names each option that did not come back, with both values
 */
export function requireReported(provider: string, asked: Readonly<Record<string, string>>, reported: ReadonlyMap<string, string>): void {
  const wrong = Object.entries(asked).filter(([key, value]) => reported.get(key) !== value);
  if (wrong.length === 0) return;
  const lines = wrong.map(([key, value]) => `${key} was asked as ${value} and is reported ${said(reported.get(key))}`);
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `onnxruntime's ${provider} provider did not keep what it was told: ${lines.join(", ")}; leave ${wrong.length === 1 ? "it" : "them"} out of the runtime options`,
  );
}

function said(value: string | undefined): string {
  return value === undefined ? "not at all" : `as ${value}`;
}
