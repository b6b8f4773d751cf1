const QUIET_FIELDS = new Set(["level", "time", "pid", "msg", "err"]);

/** One JSON log line as `12:30:01.123 WARN  text key=value ...`, for people. A line that is not JSON comes back as it is. */
export function formatLogLine(line: string): string {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const time = typeof fields["time"] === "string" ? fields["time"].slice(11, 23) : "";
  const level = (typeof fields["level"] === "string" ? fields["level"] : "").toUpperCase().padEnd(5);
  const rest = Object.entries(fields)
    .filter(([name]) => !QUIET_FIELDS.has(name))
    .map(([name, value]) => `${name}=${typeof value === "string" && !/[\s"=]/.test(value) ? value : JSON.stringify(value)}`);
  const message = typeof fields["msg"] === "string" ? fields["msg"] : "";
  const head = [time, level, message, ...rest].join(" ").trimEnd();
  return `${head}\n${errorLines(fields["err"])}`;
}

function errorLines(error: unknown, indent: string = "    "): string {
  if (typeof error !== "object" || error === null) return "";
  const { code, stack, message, cause } = error as Record<string, unknown>;
  const text = typeof stack === "string" ? stack : typeof message === "string" ? message : "";
  const body = text.replaceAll("\n", `\n${indent}`);
  const own = `${indent}${typeof code === "string" ? `[${code}] ` : ""}${body}\n`;
  return cause === undefined ? own : `${own}${indent}caused by:\n${errorLines(cause, `${indent}  `)}`;
}
