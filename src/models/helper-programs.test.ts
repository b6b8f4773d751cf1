import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Manifest } from "../protocol/manifest.ts";
import { openHelperPrograms, type FindMissingPrograms } from "./helper-programs.ts";

const root = await mkdtemp(join(tmpdir(), "dryapi-programs-"));
after(() => rm(root, { recursive: true, force: true }));

async function folder(programs: Readonly<Record<string, string>>): Promise<string> {
  const dir = await mkdtemp(join(root, "bin-"));
  for (const [name, script] of Object.entries(programs)) await install(dir, name, script);
  return dir;
}

async function install(dir: string, name: string, script: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, name), `#!/bin/sh\n${script}\n`);
  await chmod(join(dir, name), 0o755);
}

const listing = (...encoders: readonly string[]): string =>
  `echo asked >> "$0.asked"; printf ' V..... = Video\\n ------\\n${encoders.map((name) => ` A....D ${name}      words (codec x)\\n`).join("")}'`;

async function said(find: FindMissingPrograms, family: Manifest["family"]): Promise<readonly string[]> {
  return (await find({ family } as Manifest)).map(({ kind, code, message }) => {
    assert.deepEqual([kind, code], ["program", "MODEL_UNSUPPORTED"]);
    return message;
  });
}

test("what is missing is named with its package, until it is installed; pictures need nothing", async () => {
  const dir = await folder({});
  const find = openHelperPrograms({ env: { PATH: dir }, ffmpegDir: null });
  assert.deepEqual(await said(find, "flux"), []);
  assert.deepEqual(await said(find, "kokoro"), [
    "ffmpeg was not found in the PATH: install it (Debian: apt-get install ffmpeg), or set DRYAPI_FFMPEG_DIR to the folder that holds it",
    "espeak-ng was not found in the PATH: install it (Debian: apt-get install espeak-ng)",
  ]);
  await install(dir, "ffmpeg", listing("libmp3lame", "libvorbis"));
  await install(dir, "espeak-ng", "exit 0");
  assert.deepEqual(await said(find, "kokoro"), []);
});

test("a folder of ffmpeg's own is the only one that is looked in", async () => {
  const [path, own] = [await folder({ ffmpeg: listing() }), await folder({})];
  const find = openHelperPrograms({ env: { PATH: path }, ffmpegDir: own });
  assert.match((await said(find, "whisper"))[0] ?? "", new RegExp(`^ffmpeg was not found in DRYAPI_FFMPEG_DIR ${own}: `));
});

test("an ffmpeg without an encoder is named with it; each build is asked once", async () => {
  const dir = await folder({ ffmpeg: listing("libmp3lame", "libx264rgb") });
  const find = openHelperPrograms({ env: { PATH: dir }, ffmpegDir: null });
  assert.match((await said(find, "ltx-video"))[0] ?? "", /ffmpeg was built without libx264: install a build that has it/);
  assert.match((await said(find, "vits"))[0] ?? "", /ffmpeg was built without libvorbis: /);
  assert.deepEqual(await said(find, "whisper"), []);

  assert.equal(await readFile(join(dir, "ffmpeg.asked"), "utf8"), "asked\n");
  await install(dir, "ffmpeg", listing("libx264", "libmp3lame", "libvorbis", "more"));
  assert.deepEqual(await said(find, "ltx-video"), []);
});

test("an ffmpeg that cannot be run is named with what it said, and asked again", async () => {
  const dir = await folder({ ffmpeg: "echo libavcodec.so.99: cannot open shared object file >&2; exit 127" });
  const find = openHelperPrograms({ env: { PATH: dir }, ffmpegDir: null });
  assert.match((await said(find, "vits"))[0] ?? "", /ffmpeg cannot be asked for its encoders: .*libavcodec\.so\.99/s);
  await install(dir, "ffmpeg", listing("libmp3lame", "libvorbis"));
  assert.deepEqual(await said(find, "vits"), []);
});
