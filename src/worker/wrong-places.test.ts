import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { wrongPlaces } from "./wrong-places.ts";

const dir = await mkdtemp(join(tmpdir(), "dryapi-places-"));
after(() => rm(dir, { recursive: true, force: true }));
const NONE = { device: "auto", cudaLibs: null, ffmpegDir: null } as const;

test("a folder without what is looked for there is named with its setting", async () => {
  const problems = await wrongPlaces({ ...NONE, cudaLibs: `${dir}:${join(dir, "cuda")}`, ffmpegDir: dir });
  assert.deepEqual(
    problems.map((problem) => problem.split(":")[0]),
    [`DRYAPI_CUDA_LIBS names ${join(dir, "cuda")}, which does not exist`, `DRYAPI_FFMPEG_DIR is ${dir}, which holds no ffmpeg`],
  );
});

test("GPU libraries are not looked for where no GPU is used, and what is there is no problem", async () => {
  assert.deepEqual(await wrongPlaces(NONE), []);
  assert.deepEqual(await wrongPlaces({ ...NONE, device: "cpu", cudaLibs: join(dir, "none") }), []);
  const full = join(dir, "full");
  await mkdir(full);
  await writeFile(join(full, "ffmpeg"), "");
  await chmod(join(full, "ffmpeg"), 0o755);
  assert.deepEqual(await wrongPlaces({ ...NONE, cudaLibs: full, ffmpegDir: full }), []);
});
