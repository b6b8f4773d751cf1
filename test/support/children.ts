import { readdirSync, readFileSync } from "node:fs";

export interface Child {
  readonly pid: number;
  /** Name of the program. */
  readonly name: string;
}

/** Processes that this one has started and that are still there, from /proc. */
export function childrenOfThis(): readonly Child[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
        const [, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        const name = stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"));
        return Number(parent) === process.pid ? [{ pid: Number(entry), name }] : [];
      } catch {
        // It ended while we looked.
        return [];
      }
    });
}

/** What the kernel does when memory runs out: takes the helper programs away. */
export function killChildren(): void {
  for (const { pid } of childrenOfThis()) process.kill(pid, "SIGKILL");
}
