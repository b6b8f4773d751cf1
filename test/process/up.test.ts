import assert from "node:assert/strict";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { promisify } from "node:util";
import { WAIT_MS } from "../support/system.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const CLI = join(ROOT, "src", "cli.ts");
const exec = promisify(execFile);

/** A running `dryapi up` and what it has printed. */
interface Up extends AsyncDisposable {
  readonly process: ChildProcess;
  readonly dir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly printed: readonly string[];
  /** The lines below a heading, up to the next empty one. */
  below(heading: string): readonly string[];
}

async function startUp(more: Readonly<Record<string, string>> = {}): Promise<Up> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-up-"));
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: dir,
    DRYAPI_STATE_DIR: join(dir, "state"),
    DRYAPI_DEVICE: "cpu",
    DRYAPI_ADMIN_PORT: "0",
    DRYAPI_HTTP_PORT: "0",
    ...more,
  };
  const printed: string[] = [];
  const up = spawn(process.execPath, [CLI, "up"], { env, stdio: ["ignore", "pipe", "ignore"] });
  const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`not up within ${WAIT_MS} ms; it printed ${printed.join("\n")}`)), WAIT_MS);
  up.once("exit", (code) => reject(new Error(`it ended with code ${code}`)));
  createInterface({ input: up.stdout }).on("line", (line) => {
    printed.push(line);
    if (line.startsWith("Ctrl-C")) resolve();
  });
  await ready.finally(() => clearTimeout(timer));
  return {
    process: up,
    dir,
    env,
    printed,
    below: (heading) => {
      const from = printed.indexOf(heading) + 1;
      return printed.slice(from, printed.indexOf("", from));
    },
    [Symbol.asyncDispose]: async () => {
      up.kill("SIGKILL");
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Pastes the curl lines; then polls as the last of them does. Resolves to the type of the result's file. */
async function pasteCurl(up: Up): Promise<string> {
  const lines = up.below("curl:");
  const first = await exec("bash", ["-c", lines.join("\n")]);
  let answer = JSON.parse(first.stdout) as { data: { request_id: string; status: string; result_url: string } };
  const id = answer.data.request_id;
  for (const deadline = performance.now() + WAIT_MS; answer.data.status !== "done";) {
    assert.ok(performance.now() < deadline && answer.data.status !== "error", JSON.stringify(answer));
    await wait(200);
    answer = JSON.parse((await exec("bash", ["-c", `id=${id}\n${lines.at(-1)}`])).stdout) as typeof answer;
  }
  const { stdout: type } = await exec("curl", ["-s", "-o", "/dev/null", "-w", "%{content_type}", answer.data.result_url]);
  return type;
}

/** The line that submits, in another folder than the one that `up` was started in. Resolves to its report. */
async function pasteSubmit(up: Up): Promise<Readonly<Record<string, unknown>>> {
  const line = up.printed.find((each) => each.startsWith("or ")) ?? "";
  const command = line.replace(/^or\s+/, "");
  const { stdout } = await exec("bash", ["-c", `${command} --json`], {
    cwd: up.dir,
    env: { PATH: process.env["PATH"] ?? "", HOME: up.dir },
  });
  return JSON.parse(stdout) as Readonly<Record<string, unknown>>;
}

/** As somebody meets it in his first five minutes: what it prints is pasted, and must work. */
describe("dryapi up", () => {
  let up: Up;
  let dir: string;
  let env: Readonly<Record<string, string>>;

  before(async () => {
    up = await startUp();
    ({ dir, env } = up);
  });
  after(async () => up[Symbol.asyncDispose]());

  test("the curl lines work when pasted", async () => {
    assert.equal(await pasteCurl(up), "image/png");
  });

  test("the line that submits works when pasted", async () => {
    const report = await pasteSubmit(up);
    assert.equal(report["status"], "done", JSON.stringify(report));
  });

  test("where another model alone is served, the lines are of that one", async () => {
    await using speech = await startUp({ DRYAPI_MODELS: "tiny-vits" });
    assert.doesNotMatch(speech.printed.join("\n"), /flux/);
    assert.equal(await pasteCurl(speech), "audio/mpeg");
    assert.equal((await pasteSubmit(speech))["status"], "done");
  });

  test("the pusher-js lines work when pasted", async () => {
    const script = join(dir, "paste.mjs");
    await symlink(join(ROOT, "node_modules"), join(dir, "node_modules"));
    await writeFile(script, `${up.below("pusher-js:").join("\n")}\n`);
    const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      const { promise: done, resolve, reject } = Promise.withResolvers<void>();
      const timer = setTimeout(() => reject(new Error(`no end was told within ${WAIT_MS} ms`)), WAIT_MS);
      let said = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        if (said.includes("status: 'done'")) resolve();
      });
      const submit = up.below("curl:").slice(0, 2).join("\n");
      // Until the subscription stands nothing is told of what ended before it.
      const again = setInterval(() => void exec("bash", ["-c", submit]), 2_000);
      await done.finally(() => {
        clearTimeout(timer);
        clearInterval(again);
      });
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("submit finds its gateway, and a second `up` on the same folder is refused", async () => {
    const parameters = [
      "model=tiny-flux-schnell",
      "prompt=fox",
      "width=64",
      "height=64",
      "steps=2",
      "seed=4",
      "--json",
      "--out",
      join(dir, "out"),
    ];
    const { stdout } = await exec(process.execPath, [CLI, "submit", "txt2img", ...parameters], { env });
    const report = JSON.parse(stdout) as {
      status: string;
      result_url: string;
      files: readonly { path: string; size_bytes: number }[];
      seed: number;
    };
    assert.equal(report.status, "done");
    assert.equal(report.seed, 4);
    assert.match(report.result_url, /^http:\/\/127\.0\.0\.1:\d+\/r\//);
    assert.equal(report.files.length, 3);
    await assert.rejects(exec(process.execPath, [CLI, "up"], { env }), /is in use by `dryapi up`/);
    const wrong = exec(process.execPath, [CLI, "submit", "txt2img", "model=tiny-flux-schnell", "width=64", "height=64"], { env });
    await assert.rejects(wrong, /The prompt field is required/);
  });

  test("its key is in a file that nobody else can read, and stays the same", async () => {
    const { stdout } = await exec("stat", ["-c", "%a", join(dir, "state", "api-key"), join(dir, "state", "up.json")]);
    assert.deepEqual(stdout.trim().split("\n"), ["600", "600"]);
    const { promise: ended, resolve } = Promise.withResolvers<number | null>();
    up.process.removeAllListeners("exit");
    up.process.once("exit", (code) => resolve(code));
    up.process.kill("SIGTERM");
    assert.equal(await ended, 0);
  });
});
