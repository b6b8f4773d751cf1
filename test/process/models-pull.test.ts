import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { lstat, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { startHub } from "../support/hub-server.ts";

const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");
const REPO = "someone/tiny";
const MIB = 2 ** 20;
/** Pieces of the command's are 16 MiB, of which it gets six beside each other. */
const PIECE = 16 * MIB;
const LARGE = randomBytes(100 * MIB);

const manifest = {
  version: 1,
  slug: "tiny",
  name: "Tiny",
  family: "fake",
  status: "standard_model",
  tasks: ["txt2img"],
  license: { id: "MIT", commercial: true },
  source: { repository: REPO },
  files: { weights: "weights.bin", config: "config.json" },
  memoryBytes: { cpu: 1 },
  pull: {
    default: "all",
    variants: { all: { source: `hf:${REPO}`, files: [{ from: "large.bin", to: "weights.bin" }, { from: "config.json" }] } },
  },
};

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Bytes that the journal of the large file has. */
async function journaled(dir: string): Promise<number> {
  const journal = JSON.parse(await readFile(join(dir, "weights.bin.part.json"), "utf8").catch(() => '{"done":[]}')) as {
    done: { start: number; end: number }[];
  };
  return journal.done.reduce((sum, { start, end }) => sum + end - start, 0);
}

test("a pull that is killed at any point goes on, and the model appears only whole", async () => {
  await using hub = await startHub({ repo: REPO, files: { "large.bin": LARGE, "config.json": Buffer.from("{}") } });
  const dir = await mkdtemp(join(tmpdir(), "models-pull-"));
  try {
    const models = join(dir, "models");
    // The manifest lies in a folder of its own, the weights go to the first one.
    await mkdir(join(dir, "manifests", "tiny"), { recursive: true });
    await mkdir(models);
    await writeFile(join(dir, "manifests", "tiny", "model.json"), JSON.stringify(manifest));
    const env = {
      PATH: process.env["PATH"] ?? "",
      HOME: dir,
      DRYAPI_STATE_DIR: join(dir, "state"),
      DRYAPI_MODELS_DIR: `${models}:${join(dir, "manifests")}`,
      HF_ENDPOINT: hub.url,
    };
    let seen = 0;
    const start = (...args: readonly string[]): ChildProcess =>
      spawn(process.execPath, [CLI, "models", ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
    const end = async (child: ChildProcess): Promise<Ended> => {
      assert.ok(child.stdout !== null && child.stderr !== null);
      const [out, err] = [text(child.stdout), text(child.stderr)];
      const [code] = (await once(child, "exit")) as [number | null];
      return { code, out: await out, err: await err };
    };
    for (const pieces of [0, 1, 3]) {
      hub.mischief = { holdAfter: pieces };
      const child = start("pull", "tiny");
      const ended = end(child);
      await hub.held();
      while ((await journaled(join(models, ".pulled", "tiny", "all"))) < seen + pieces * PIECE) await wait(10);
      seen += pieces * PIECE;
      if (pieces === 3) {
        const prune = start("prune");
        const pruned = end(prune);
        // It waits, and says for whom, before it looks at what a pull has brought so far.
        const told = await Promise.race([once(prune.stderr ?? prune, "data").then(String), pruned.then(({ out }) => `ended: ${out}`)]);
        assert.match(told, new RegExp(`waiting for process ${child.pid}, which pulls tiny`));
        prune.kill("SIGKILL");
        await pruned;
      }
      child.kill("SIGKILL");
      assert.equal((await ended).code, null);
      await assert.rejects(lstat(join(models, "tiny")), { code: "ENOENT" });
      const listed = JSON.parse((await end(start("list", "--json"))).out) as { models: { slug: string; state: string }[] };
      assert.equal(listed.models.find(({ slug }) => slug === "tiny")?.state, "missing");
    }
    hub.mischief = {};
    const [before, killed] = [hub.sentBytes, await end(start("pull", "tiny"))];
    assert.equal(killed.code, 0, killed.err);
    assert.match(killed.out, /^tiny \(all\) is in .*models\/tiny; a running worker serves it within 30 s/);
    assert.ok(
      hub.sentBytes - before <= LARGE.length - seen + 10,
      `${hub.sentBytes - before} bytes of ${LARGE.length} were fetched at last`,
    );
    assert.ok(LARGE.equals(await readFile(join(models, "tiny", "weights.bin"))));

    const usage = await end(start("du"));
    assert.match(usage.out, /tiny +all +100 MiB +in use under its name/);
    const verified = await end(start("verify", "tiny"));
    assert.equal(verified.code, 0, verified.out);
    assert.match(verified.out, /tiny: 2 files as pinned \(/);
    assert.equal((await end(start("rm", "tiny"))).code, 0);
    await assert.rejects(lstat(join(models, "tiny")), { code: "ENOENT" });
    assert.equal((await end(start("rm", "tiny"))).code, 3);

    // A folder that somebody has made by hand is left alone: the next one takes the model.
    await mkdir(join(models, "tiny"));
    const elsewhere = await end(start("pull", "tiny"));
    assert.match(elsewhere.out, /^tiny \(all\) is in .*state\/models\/tiny; a running worker serves it/, elsewhere.err);

    const available = await end(start("list", "--available"));
    assert.match(available.out, /tiny +all \* +100 MiB +MIT +hf:someone\/tiny/);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
