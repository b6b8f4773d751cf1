import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { wrongPlaces } from "./wrong-places.ts";

const dir = await mkdtemp(join(tmpdir(), "dryapi-places-"));
after(() => rm(dir, { recursive: true, force: true }));
const NONE = { device: "auto", ortDir: null, cudaLibs: null, ffmpegDir: null } as const;

test("a folder without what is looked for there is named with its setting", async () => {
  const problems = await wrongPlaces({ ...NONE, ortDir: dir, cudaLibs: `${dir}:${join(dir, "cuda")}`, ffmpegDir: dir });
  assert.deepEqual(
    problems.map((problem) => problem.split(":")[0]),
    [
      `DRYAPI_ORT_DIR is ${dir}, which holds no libonnxruntime.so.1`,
      `DRYAPI_CUDA_LIBS names ${join(dir, "cuda")}, which does not exist`,
      `DRYAPI_FFMPEG_DIR is ${dir}, which holds no ffmpeg`,
    ],
  );
});

test("GPU libraries are not looked for where no GPU is used, and what is there is no problem", async () => {
  assert.deepEqual(await wrongPlaces(NONE), []);
  assert.deepEqual(await wrongPlaces({ ...NONE, device: "cpu", ortDir: join(dir, "none"), cudaLibs: join(dir, "none") }), []);
  const full = join(dir, "full");
  await mkdir(full);
  for (const name of ["libonnxruntime.so.1", "ffmpeg"]) await writeFile(join(full, name), "");
  await chmod(join(full, "ffmpeg"), 0o755);
  assert.deepEqual(await wrongPlaces({ ...NONE, ortDir: full, cudaLibs: full, ffmpegDir: full }), []);
});
