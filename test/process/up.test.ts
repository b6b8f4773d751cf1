import assert from "node:assert/strict";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
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

/** `dryapi up` as somebody meets it in his first five minutes: what it prints is pasted, and must work. */
describe("dryapi up", () => {
  let dir: string;
  let up: ChildProcess;
  let env: Record<string, string>;
  const printed: string[] = [];

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "dryapi-up-"));
    env = {
      PATH: process.env["PATH"] ?? "",
      HOME: dir,
      DRYAPI_STATE_DIR: join(dir, "state"),
      DRYAPI_DEVICE: "cpu",
      DRYAPI_ADMIN_PORT: "0",
      DRYAPI_HTTP_PORT: "0",
    };
    up = spawn(process.execPath, [CLI, "up"], { env, stdio: ["ignore", "pipe", "ignore"] });
    const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`not up within ${WAIT_MS} ms; it printed ${printed.join("\n")}`)), WAIT_MS);
    up.once("exit", (code) => reject(new Error(`it ended with code ${code}`)));
    if (up.stdout !== null)
      createInterface({ input: up.stdout }).on("line", (line) => {
        printed.push(line);
        if (line.startsWith("Ctrl-C")) resolve();
      });
    await ready.finally(() => clearTimeout(timer));
  });
  after(async () => {
    up.kill("SIGKILL");
    await rm(dir, { recursive: true, force: true });
  });

  /** The lines below a heading, up to the next empty one. */
  const below = (heading: string): readonly string[] => {
    const from = printed.indexOf(heading) + 1;
    return printed.slice(from, printed.indexOf("", from));
  };

  test("the curl lines work when pasted", async () => {
    const lines = below("curl:");
    const submit = lines.slice(0, 2).join("\n");
    const { stdout } = await exec("bash", ["-c", submit]);
    const { data } = JSON.parse(stdout) as { data: { request_id: string } };
    const poll = lines.at(-1)?.replace("REQUEST_ID", data.request_id) ?? "";
    for (const deadline = performance.now() + WAIT_MS; ;) {
      const answer = JSON.parse((await exec("bash", ["-c", poll])).stdout) as { data: { status: string; result_url: string } };
      if (answer.data.status === "done") {
        const { stdout: type } = await exec("curl", ["-s", "-o", "/dev/null", "-w", "%{content_type}", answer.data.result_url]);
        assert.equal(type, "image/png");
        return;
      }
      assert.ok(performance.now() < deadline, JSON.stringify(answer));
      await wait(200);
    }
  });

  test("the pusher-js lines work when pasted", async () => {
    const script = join(dir, "paste.cjs");
    await writeFile(
      script,
      `const Pusher = require(${JSON.stringify(join(ROOT, "node_modules", "pusher-js"))});\n${below("pusher-js:").join("\n")}\n`,
    );
    const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      const { promise: done, resolve, reject } = Promise.withResolvers<void>();
      const timer = setTimeout(() => reject(new Error(`no end was told within ${WAIT_MS} ms`)), WAIT_MS);
      let said = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        if (said.includes("status: 'done'")) resolve();
      });
      const submit = below("curl:").slice(0, 2).join("\n");
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
    up.removeAllListeners("exit");
    up.once("exit", (code) => resolve(code));
    up.kill("SIGTERM");
    assert.equal(await ended, 0);
  });
});
