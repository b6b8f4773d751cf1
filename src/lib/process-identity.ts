import { readFile, readlink } from "node:fs/promises";

/** What tells a process from any other, also after a reboot, when its pid is used again, and from another container. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot at which the process started (/proc/<pid>/stat, field 22). */
  readonly startTicks: string;
  readonly bootId: string;
  readonly pidNamespace: string;
}

export async function ownIdentity(): Promise<ProcessIdentity> {
  const bootId = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "unknown");
  return {
    pid: process.pid,
    startTicks: (await startTicks(process.pid)) ?? "unknown",
    bootId: bootId.trim(),
    pidNamespace: await readlink("/proc/self/ns/pid").catch(() => "unknown"),
  };
}

/**
 * Whether the process still runs, as far as this one can see: `unknown` for one of another machine or container, or of before a reboot,
 * since machines that were cloned have the same names.
 */
export async function judgeProcess(other: Partial<ProcessIdentity>, own: ProcessIdentity): Promise<"alive" | "gone" | "unknown"> {
  const isHere =
    other.bootId === own.bootId && other.pidNamespace === own.pidNamespace && own.bootId !== "unknown" && own.pidNamespace !== "unknown";
  if (!isHere || other.pid === undefined) return "unknown";
  return (await startTicks(other.pid)) === other.startTicks ? "alive" : "gone";
}

/** Null when there is no such process, or only its zombie. */
export async function startTicks(pid: number): Promise<string | null> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    // The second field, the command in parentheses, may hold spaces: count behind its end.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}
