/** One line of `dryapi doctor`. `warn` works but will bite; `fail` does not work. */
export interface Finding {
  readonly check: string;
  readonly level: "ok" | "warn" | "fail";
  readonly message: string;
  /** What to do about it. */
  readonly fix?: string;
}

export const ok = (check: string, message: string): Finding => ({ check, level: "ok", message });
export const warn = (check: string, message: string, fix: string): Finding => ({ check, level: "warn", message, fix });
export const fail = (check: string, message: string, fix: string): Finding => ({ check, level: "fail", message, fix });
