import { stat } from "node:fs/promises";
import type { Config } from "../config/config.ts";
import { findProgram } from "../lib/find-program.ts";

type Places = Pick<Config, "device" | "cudaLibs" | "ffmpegDir">;

/** Settings that name a folder without what is looked for there: a sentence each. Folders of models are told by the scan. */
export async function wrongPlaces({ device, cudaLibs, ffmpegDir }: Places): Promise<readonly string[]> {
  const problems: string[] = [];
  const needsCuda = device === "cuda" || device === "auto";
  for (const folder of needsCuda ? (cudaLibs ?? "").split(":").filter(Boolean) : []) {
    if (!(await exists(folder)))
      problems.push(`DRYAPI_CUDA_LIBS names ${folder}, which does not exist: name the folders of the CUDA and cuDNN libraries`);
  }
  if (ffmpegDir !== null && findProgram("ffmpeg", [ffmpegDir]) === null)
    problems.push(
      `DRYAPI_FFMPEG_DIR is ${ffmpegDir}, which holds no ffmpeg: audio and video models cannot be served; name its folder, or leave the setting out`,
    );
  return problems;
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
