import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { FAMILY_PROGRAMS, type ProgramNeed } from "../core/family-programs.ts";
import { findProgram, pathFolders } from "../lib/find-program.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { FileProblem } from "./model-files.ts";

const TIMEOUT_MS = 20_000;

/** Programs that a model needs and this machine does not have, or not as it needs them. */
export type FindMissingPrograms = (manifest: Manifest) => Promise<readonly FileProblem[]>;

export interface HelperProgramOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** DRYAPI_FFMPEG_DIR; null = the PATH. */
  readonly ffmpegDir: string | null;
}

/** Looks on this machine, anew at each call, so that what was installed meanwhile is found; a program is asked for its encoders once. */
export function openHelperPrograms({ env, ffmpegDir }: HelperProgramOptions): FindMissingPrograms {
  const asked = new Map<string, Promise<string>>();

  async function problemOf({ program, encoders }: ProgramNeed): Promise<string | null> {
    const ownDir = program === "ffmpeg" ? ffmpegDir : null;
    const path = findProgram(program, ownDir === null ? pathFolders(env) : [ownDir]);
    if (path === null) {
      const where = ownDir === null ? "in the PATH" : `in DRYAPI_FFMPEG_DIR ${ownDir}`;
      const otherwise = program === "ffmpeg" ? ", or set DRYAPI_FFMPEG_DIR to the folder that holds it" : "";
      return `${program} was not found ${where}: install it (Debian: apt-get install ${program})${otherwise}`;
    }
    if (encoders.length === 0) return null;
    const listed = await encodersOf(path);
    if (typeof listed !== "string") return `${path} cannot be asked for its encoders: ${listed.why}`;
    const missing = encoders.filter((name) => !new RegExp(`^ \\S+ +${name} `, "m").test(listed));
    return missing.length === 0
      ? null
      : `${path} was built without ${missing.join(", ")}: install a build that has it (Debian: apt-get install ffmpeg), or set DRYAPI_FFMPEG_DIR to its folder`;
  }

  async function encodersOf(path: string): Promise<string | { readonly why: string }> {
    const { mtimeMs, size } = await stat(path);
    const key = `${path} ${mtimeMs} ${size}`;
    const answer = asked.get(key) ?? askForEncoders(path);
    asked.set(key, answer);
    try {
      return await answer;
    } catch (thrown) {
      asked.delete(key);
      return { why: thrown instanceof Error ? thrown.message.trim() : String(thrown) };
    }
  }

  return async ({ family }) => {
    const found = await Promise.all(FAMILY_PROGRAMS[family].map(problemOf));
    return found.flatMap((message, index): readonly FileProblem[] =>
      message === null
        ? []
        : [{ file: FAMILY_PROGRAMS[family][index]?.program ?? "", kind: "program", message, code: "MODEL_UNSUPPORTED" }],
    );
  };
}

function askForEncoders(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(path, ["-hide_banner", "-encoders"], { timeout: TIMEOUT_MS, killSignal: "SIGKILL" }, (error, stdout) =>
      error === null ? resolve(stdout) : reject(error),
    );
  });
}
