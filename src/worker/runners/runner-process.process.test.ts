import assert from "node:assert/strict";
import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fakeManifest, openRunnerRig, type RunnerRig } from "../../../test/fixtures/runner-rig.ts";
import { closeGate, paced } from "../../../test/support/pace.ts";
import { until } from "../../../test/support/redis-rig.ts";
import { findOrtLibrary, packagedOrt } from "../../lib/ort-files.ts";
import type { AppError, ErrorCode } from "../../protocol/error.ts";
import { parseManifest } from "../../protocol/manifest.ts";
import { realSchedule } from "./runner-deadline.ts";
import type { RunnerProcess } from "./runner-process.ts";
import type { BatchEnd, JobEnd, RunnerEvent, Schedule } from "./runner-types.ts";

const FIXTURES = join(import.meta.dirname, "..", "..", "..", "test", "fixtures");

let rig: RunnerRig;
before(async () => {
  rig = await openRunnerRig();
});
after(async () => {
  await rig[Symbol.asyncDispose]();
});

const codeOf = (outcome: JobEnd | undefined): ErrorCode | "done" | undefined => (outcome?.kind === "done" ? "done" : outcome?.error.code);

interface ManualTimer {
  readonly run: () => void;
  readonly delayMs: number;
  isOpen: boolean;
}

/** Timers that run out when the test says so. */
function manualTimers(): { readonly all: readonly ManualTimer[]; readonly schedule: Schedule } {
  const all: ManualTimer[] = [];
  const schedule: Schedule = (run, delayMs) => {
    const timer = { run, delayMs, isOpen: true };
    all.push(timer);
    return () => (timer.isOpen = false);
  };
  return { all, schedule };
}

async function runOne(
  runner: RunnerProcess,
  id: string,
  params: Record<string, unknown>,
): Promise<BatchEnd & { readonly outcome: JobEnd }> {
  const end = await runner.runBatch({ batch: id, jobs: [await rig.job(id, params as never)] });
  const outcome = end.jobs.get(id);
  assert.ok(outcome);
  return { ...end, outcome };
}

describe("a batch on a healthy runner", () => {
  it("reports stages, steps and previews in order, and its file as it is on disk", async () => {
    const runner = await rig.startReady();
    assert.equal(runner.state, "ready");
    const job = await rig.job("job-happy-1", { steps: 3, seed: 7 });
    const events: RunnerEvent[] = [];
    const running = runner.runBatch({ batch: "b1", jobs: [job], onEvent: (event) => events.push(event) });
    assert.equal(runner.state, "busy");
    const end = await running;
    assert.equal(runner.state, "ready");
    const outcome = end.jobs.get("job-happy-1");
    assert.equal(outcome?.kind, "done");
    const [file] = outcome.message.files;
    const bytes = await readFile(join(job.outDir, file?.name ?? ""));
    assert.equal(bytes.byteLength, file?.sizeBytes);
    assert.deepEqual([...bytes.subarray(0, 4)], [0x89, 0x50, 0x4e, 0x47]);
    assert.equal(outcome.message.seed, 7);
    assert.deepEqual(
      events.filter((event) => event.type === "stage").map((event) => event.stage),
      ["text", "denoise", "decode", "encode"],
    );
    assert.deepEqual(
      events.filter((event) => event.type === "progress").map((event) => event.step),
      [1, 2, 3],
    );
    // The first is never too soon; how many follow is the rate limit's business.
    assert.equal(events.find((event) => event.type === "preview")?.step, 1);
    assert.equal(end.reusable, true);
    assert.equal(end.exit, null);
    assert.ok(end.rssBytes > 1024 * 1024);
  });

  it("waits with the end of the batch until the daemon has recorded every job", async () => {
    const runner = await rig.startReady();
    const recorded = Promise.withResolvers<void>();
    const reported = Promise.withResolvers<void>();
    let ended = false;
    const running = runner
      .runBatch({
        batch: "b",
        jobs: [await rig.job("job-ack-1", {})],
        onJobEnd: () => {
          reported.resolve();
          return recorded.promise;
        },
      })
      .finally(() => (ended = true));
    await reported.promise;
    // A ping is answered only after the batch: still busy is what `state` says.
    assert.equal(runner.state, "busy");
    assert.equal(ended, false);
    recorded.resolve();
    assert.equal(codeOf((await running).jobs.get("job-ack-1")), "done");
  });

  it("runs several jobs, and one that throws does not fail the others", async () => {
    const runner = await rig.startReady();
    const jobs = [
      await rig.job("job-many-1", { steps: 1 }),
      await rig.job("job-many-2", { steps: 2, fault: { kind: "throw" } }),
      await rig.job("job-many-3", { steps: -1 }),
    ];
    const order: string[] = [];
    const end = await runner.runBatch({ batch: "b", jobs, onJobEnd: (id) => void order.push(id) });
    assert.equal(codeOf(end.jobs.get("job-many-1")), "done");
    assert.equal(codeOf(end.jobs.get("job-many-2")), "PIPELINE_FAILED");
    assert.equal(codeOf(end.jobs.get("job-many-3")), "INVALID_INPUT");
    assert.deepEqual(order, ["job-many-3", "job-many-2", "job-many-1"]);
    assert.equal(end.reusable, true);
  });

  it("is not reusable after out of memory, which fails the whole batch", async () => {
    const runner = await rig.startReady();
    const jobs = [await rig.job("job-oom-1", { steps: 1, fault: { kind: "oom", at: "decode" } }), await rig.job("job-oom-2", { steps: 1 })];
    const end = await runner.runBatch({ batch: "b", jobs });
    assert.deepEqual([...end.jobs.values()].map(codeOf), ["OUT_OF_MEMORY", "OUT_OF_MEMORY"]);
    assert.equal(end.reusable, false);
    assert.equal(end.exit, null);
  });

  it("answers a ping and stops with exit code 0", async () => {
    const runner = await rig.startReady();
    assert.ok((await runner.ping({ timeoutMs: 10_000 })) >= 0);
    const exit = await runner.stop({ graceMs: 10_000 });
    assert.deepEqual([exit.reason, exit.exitCode, exit.crashed, runner.state], ["stopped", 0, false, "stopped"]);
    await assert.rejects(runner.runBatch({ batch: "b", jobs: [] }), { code: "INTERNAL" });
  });

  it("lets a batch end before it stops", async () => {
    const runner = await rig.startReady();
    const running = runner.runBatch({ batch: "b", jobs: [await rig.job("job-drain-1", { steps: 1 })] });
    const exit = runner.stop({ graceMs: 10_000 });
    assert.equal(runner.state, "draining");
    assert.equal(codeOf((await running).jobs.get("job-drain-1")), "done");
    assert.equal((await exit).exitCode, 0);
  });

  it("does not end on SIGTERM: that is the daemon's to decide", async () => {
    const runner = await rig.startReady();
    process.kill(runner.pid ?? 0, "SIGTERM");
    process.kill(runner.pid ?? 0, "SIGINT");
    assert.equal((await runOne(runner, "job-term-1", {})).outcome.kind, "done");
  });
});

describe("a runner that dies", () => {
  for (const at of ["text", "denoise", "decode", "encode"]) {
    it(`of SIGSEGV in ${at} leaves the job unfinished, with a black box`, async () => {
      const runner = await rig.startReady();
      const end = await runOne(runner, `job-segv-${at}`, { steps: 2, fault: { at, kind: "segfault", step: 2 - Number(at !== "denoise") } });
      assert.equal(end.outcome.kind, "unfinished");
      assert.equal(codeOf(end.outcome), "RUNNER_CRASHED");
      assert.deepEqual([end.reusable, end.exit?.reason, end.exit?.crashed, end.exit?.signal], [false, "crash", true, "SIGSEGV"]);
      const box = end.exit?.error.blackBox;
      assert.deepEqual([box?.signal, box?.stage, box?.model, box?.device], ["SIGSEGV", at, "fake", "cpu:0"]);
      assert.ok((box?.rssBytes ?? 0) > 0);
      assert.equal(runner.state, "stopped");
    });
  }

  it("with exit code 0 and no word has crashed all the same", async () => {
    const end = await runOne(await rig.startReady(), "job-exit-1", { steps: 1, fault: { kind: "exit0" } });
    assert.deepEqual([codeOf(end.outcome), end.exit?.reason, end.exit?.exitCode], ["RUNNER_CRASHED", "crash", 0]);
  });

  it("leaves the last 4 KiB of its stderr in the black box and all lines in the log", async () => {
    const runner = await rig.startReady();
    assert.equal((await runOne(runner, "job-stderr-1", { steps: 1, fault: { kind: "stderr" } })).outcome.kind, "done");
    const end = await runOne(runner, "job-stderr-2", { steps: 1, fault: { kind: "abort" } });
    const tail = end.exit?.error.blackBox?.stderr ?? "";
    assert.equal(end.exit?.signal, "SIGABRT");
    assert.ok(tail.includes("fake: line 100 of 100"), tail);
    assert.ok(tail.length <= 4096);
    assert.ok(rig.logged.includes("fake: line 1 of 100, as asked"));
  });

  it("keeps the jobs done that it finished before", async () => {
    const runner = await rig.startReady();
    const jobs = [
      await rig.job("job-keep-1", { steps: 1, fault: { kind: "invalid_input", at: "text" } }),
      await rig.job("job-keep-2", { steps: 1, fault: { kind: "exit0" } }),
    ];
    const end = await runner.runBatch({ batch: "b", jobs });
    assert.equal(codeOf(end.jobs.get("job-keep-1")), "INVALID_INPUT");
    assert.equal(end.jobs.get("job-keep-2")?.kind, "unfinished");
  });

  it("crashes on the first runs only when the job says so", async () => {
    const params = { steps: 1, fault: { kind: "segfault" }, fault_claims: 1 };
    assert.equal((await runOne(await rig.startReady(), "job-once-1", params)).outcome.kind, "unfinished");
    assert.equal((await runOne(await rig.startReady(), "job-once-1", params)).outcome.kind, "done");
  });

  it("by a signal from outside while idle tells so through `exited`", async () => {
    const runner = await rig.startReady();
    process.kill(runner.pid ?? 0, "SIGKILL");
    const exit = await runner.exited;
    assert.deepEqual([exit.reason, exit.signal, exit.error.blackBox?.stage], ["crash", "SIGKILL", "idle"]);
  });
});

describe("a runner that hangs", () => {
  it("in a native wait is killed at its stage's deadline", async () => {
    const manifest = fakeManifest({ deadlines: { stageMs: { denoise: 300 } } });
    const end = await runOne(await rig.startReady({ manifest }), "job-hang-1", { steps: 1, fault: { kind: "hang" } });
    assert.deepEqual([codeOf(end.outcome), end.exit?.reason, end.exit?.signal], ["STAGE_TIMEOUT", "stage-timeout", "SIGKILL"]);
    assert.match(end.exit?.error.message ?? "", /denoise .* 300 ms/);
  });

  it("lives as long as its steps go on, however long the whole takes: each winds the deadline up anew", async () => {
    const manifest = fakeManifest({ deadlines: { stageMs: { denoise: 1_234 } } });
    const timers = manualTimers();
    const runner = await rig.startReady({ manifest, schedule: timers.schedule });
    const end = await runOne(runner, "job-slow-1", { steps: 12 });
    assert.equal(end.outcome.kind, "done");
    const started = timers.all.filter(({ delayMs }) => delayMs === 1_234);
    assert.ok(started.length >= 12, `${started.length} deadlines for 12 steps`);
    assert.ok(started.every(({ isOpen }) => !isOpen));
  });

  it("in its load is killed at the load's deadline, and the stage is named", async () => {
    const manifest = fakeManifest({ deadlines: { loadMs: 1_234 }, options: { fault: { at: "load", kind: "hang" } } });
    const timers = manualTimers();
    const onStage = (stage: string): void => {
      if (stage === "load:fault") timers.all.find(({ delayMs }) => delayMs === 1_234)?.run();
    };
    const runner = await rig.start({ manifest, schedule: timers.schedule, onStage });
    await assert.rejects(runner.ready, (error: AppError) => error.code === "LOAD_TIMEOUT" && error.message.includes("load:fault"));
    assert.equal((await runner.exited).reason, "load-timeout");
  });

  it("and does not answer a ping is killed", async () => {
    const runner = await rig.startReady();
    process.kill(runner.pid ?? 0, "SIGSTOP");
    await assert.rejects(runner.ping({ timeoutMs: 200 }), { code: "STAGE_TIMEOUT" });
    assert.equal((await runner.exited).reason, "stage-timeout");
  });
});

describe("a cancel", () => {
  it("ends the job at its next step and leaves the runner usable", async () => {
    const runner = await rig.startReady();
    const stepped = Promise.withResolvers<void>();
    using gate = closeGate("cancel", rig.dir);
    const job = await rig.job("job-cancel-1", { steps: 3, fault: { ...gate.fault, step: 2 } });
    const running = runner.runBatch({ batch: "b", jobs: [job], onEvent: (event) => event.type === "progress" && stepped.resolve() });
    await stepped.promise;
    assert.equal(runner.cancel("job-cancel-1"), true);
    const end = await running;
    assert.deepEqual([codeOf(end.jobs.get("job-cancel-1")), end.reusable, end.exit], ["CANCELLED", true, null]);
    assert.equal(runner.cancel("job-cancel-1"), false);
    assert.equal((await runOne(runner, "job-cancel-2", {})).outcome.kind, "done");
  });

  it("waits for a step that others share, however long it takes", async () => {
    const graces: number[] = [];
    const schedule: Schedule = (run, delayMs) => {
      if (delayMs === 600_001) graces.push(delayMs);
      return realSchedule(run, delayMs);
    };
    const runner = await rig.startReady({ cancelGraceMs: 600_001, schedule });
    using gate = closeGate("shared", rig.dir);
    const reached = Promise.withResolvers<void>();
    const jobs = [
      await rig.job("job-shared-1", { steps: 3, fault: { ...gate.fault, step: 2 } }),
      await rig.job("job-shared-2", { steps: 3 }),
    ];
    const running = runner.runBatch({ batch: "b", jobs, onEvent: (event) => event.type === "progress" && reached.resolve() });
    await reached.promise;
    assert.equal(runner.cancel("job-shared-2"), true);
    assert.deepEqual(graces, []);
    gate.open();
    const end = await running;
    assert.deepEqual([end.jobs.get("job-shared-1")?.kind, codeOf(end.jobs.get("job-shared-2"))], ["done", "CANCELLED"]);
    assert.deepEqual([end.reusable, end.exit], [true, null]);
  });

  it("that is ignored kills the runner within the grace; the other jobs are blameless", async () => {
    const runner = await rig.startReady({ cancelGraceMs: 200 });
    const stepped = Promise.withResolvers<void>();
    const jobs = [
      await rig.job("job-ignore-1", { steps: 10_000, step_ms: paced(5), fault: { kind: "ignore_cancel" } }),
      await rig.job("job-ignore-2", { steps: 10_000, step_ms: paced(5) }),
    ];
    const running = runner.runBatch({ batch: "b", jobs, onEvent: (event) => event.type === "progress" && stepped.resolve() });
    await stepped.promise;
    runner.cancel("job-ignore-1");
    const end = await running;
    assert.deepEqual(
      [...end.jobs.values()].map(({ kind }) => kind),
      ["unfinished", "unfinished"],
    );
    assert.deepEqual([end.exit?.reason, end.exit?.crashed], ["cancel", false]);
  });

  it("kills a runner that waits for ever without blocking", async () => {
    const runner = await rig.startReady({ cancelGraceMs: 100 });
    const reached = Promise.withResolvers<void>();
    const jobs = [await rig.job("job-stall-1", { steps: 1, fault: { kind: "stall" } })];
    const running = runner.runBatch({
      batch: "b",
      jobs,
      onEvent: (event) => event.type === "stage" && event.stage === "denoise" && reached.resolve(),
    });
    await reached.promise;
    runner.cancel("job-stall-1");
    const end = await running;
    assert.deepEqual([end.jobs.get("job-stall-1")?.kind, end.exit?.reason], ["unfinished", "cancel"]);
  });

  it("kills also a runner that is blocked in native code", async () => {
    const runner = await rig.startReady({ cancelGraceMs: 100 });
    const blocked = Promise.withResolvers<void>();
    const jobs = [await rig.job("job-native-1", { steps: 1, busy_ms: 600_000 })];
    const running = runner.runBatch({
      batch: "b",
      jobs,
      onEvent: (event) => event.type === "stage" && event.stage === "denoise" && blocked.resolve(),
    });
    await blocked.promise;
    runner.cancel("job-native-1");
    const end = await running;
    assert.deepEqual([end.jobs.get("job-native-1")?.kind, end.exit?.reason], ["unfinished", "cancel"]);
  });
});

describe("a runner that cannot be trusted", () => {
  it("of another version is refused", async () => {
    const runner = await rig.start({ entry: join(FIXTURES, "wrong-version-runner.ts") });
    await assert.rejects(runner.ready, { code: "IPC_MISMATCH" });
    assert.deepEqual([(await runner.exited).reason, (await runner.exited).signal], ["protocol", "SIGKILL"]);
  });

  it("that sends nonsense is killed", async () => {
    const end = await runOne(await rig.startReady(), "job-garbage-1", { steps: 1, step_ms: 60_000, fault: { kind: "garbage" } });
    assert.deepEqual([codeOf(end.outcome), end.exit?.reason], ["RUNNER_CRASHED", "protocol"]);
    assert.match(end.exit?.error.message ?? "", /nonsense/);
  });

  it("gets no secret of the daemon", async () => {
    const secrets = {
      REDIS_URL: "redis://:pw@h",
      AWS_SECRET_ACCESS_KEY: "s",
      AWS_ACCESS_KEY_ID: "k",
      DRYAPI_TOKEN: "t",
      NODE_OPTIONS: "--no-warnings",
    };
    const env = { ...process.env, ...secrets, CUDA_VISIBLE_DEVICES: "1", LD_LIBRARY_PATH: "/somewhere" };
    const runner = await rig.start({ entry: join(FIXTURES, "env-runner.ts"), env });
    const error = await runner.ready.then(
      () => assert.fail("it never loads"),
      (thrown: AppError) => thrown,
    );
    const seen = JSON.parse(error.message) as Record<string, string>;
    for (const name of Object.keys(secrets)) assert.equal(seen[name], undefined, name);
    assert.deepEqual([seen["ORT_DISABLE_TELEMETRY"], seen["CUDA_VISIBLE_DEVICES"], seen["LD_LIBRARY_PATH"]], ["1", "1", "/somewhere"]);
  });

  it("whose entry is missing fails its load", async () => {
    const runner = await rig.start({ entry: join(FIXTURES, "no-such-file.ts") });
    await assert.rejects(
      runner.ready,
      (error: AppError) => error.code === "RUNNER_CRASHED" && /no-such-file/.test(error.blackBox?.stderr ?? ""),
    );
  });

  it("whose program is missing fails its load", async () => {
    const runner = await rig.start({ setpriv: "/nowhere/setpriv" });
    await assert.rejects(runner.ready, (error: AppError) => error.code === "RUNNER_CRASHED" && /ENOENT/.test(error.message));
  });
});

describe("a load that fails", () => {
  it("is reported with its own code, and the runner exits 1", async () => {
    const manifest = fakeManifest({ options: { fault: { at: "load", kind: "oom" } } });
    const runner = await rig.start({ manifest });
    await assert.rejects(runner.ready, { code: "OUT_OF_MEMORY" });
    assert.deepEqual([(await runner.exited).reason, (await runner.exited).exitCode], ["fatal", 1]);
  });

  it("names a folder that is gone", async () => {
    const runner = await rig.start({ modelDir: join(rig.dir, "gone") });
    await assert.rejects(runner.ready, (error: AppError) => error.code === "MODEL_NOT_FOUND" && error.message.includes("gone"));
  });

  it("by a crash carries the black box", async () => {
    const manifest = fakeManifest({ options: { fault: { at: "load", kind: "segfault" } } });
    const runner = await rig.start({ manifest });
    await assert.rejects(runner.ready, (error: AppError) => error.blackBox?.signal === "SIGSEGV" && error.blackBox.stage === "load:fault");
  });

  it("for wrong options of the family names the option", async () => {
    const runner = await rig.start({ manifest: fakeManifest({ options: { load_ms: "long" } }) });
    await assert.rejects(runner.ready, (error: AppError) => error.code === "MANIFEST_INVALID" && error.message.includes("load_ms"));
  });
});

describe("options of onnxruntime", () => {
  it("reach the graphs of a runner, the operator's before the model's", async () => {
    const modelDir = join(FIXTURES, "..", "..", "models", "tiny-vits");
    const shipped = parseManifest(JSON.parse(await readFile(join(modelDir, "model.json"), "utf8")), modelDir);
    const manifest = { ...shipped, runtime: { providers: { cpu: ["openvino"] } } };
    const refused = await rig.start({ manifest, modelDir, epLibraries: { openvino: "/nowhere/libopenvino.so" } });
    await assert.rejects(refused.ready, (error: AppError) => {
      assert.equal(error.code, "DEVICE_UNAVAILABLE");
      assert.match(error.message, /provider openvino cannot be loaded from \/nowhere\/libopenvino\.so: /);
      return true;
    });
    const runner = await rig.start({ manifest, modelDir, runtime: { providers: { cpu: ["cpu"] } } });
    assert.deepEqual((await runner.ready).reports, []);
  });
});

describe("a GPU that is not there", () => {
  it("fails the load with the library that is missing, not with onnxruntime's own words alone", async () => {
    // A folder with the library alone comes first, so that neither this machine's own CUDA setting nor its default folder is found.
    const dir = join(rig.dir, "library-alone");
    await mkdir(dir);
    await symlink(findOrtLibrary(packagedOrt().dir) ?? "", join(dir, "libonnxruntime.so.1"));
    const runner = await rig.start({
      manifest: fakeManifest({ family: "flux" }),
      device: { id: "cuda:0", kind: "cuda", index: 0, threads: 1 },
      env: { PATH: process.env["PATH"], TMPDIR: rig.dir, DRYAPI_ORT_DIR: dir },
    });
    await assert.rejects(runner.ready, (error: AppError) => {
      assert.equal(error.code, "DEVICE_UNAVAILABLE");
      assert.match(error.message, /cuda:0 cannot be used.*libonnxruntime_providers_shared\.so/);
      assert.equal(error.blackBox?.stage, "load:device");
      return true;
    });
    assert.equal((await runner.exited).reason, "fatal");
  });
});

describe("the death of the daemon", () => {
  const entry = join(import.meta.dirname, "..", "..", "runner", "main.ts");

  it("before the child was up is noticed by it at its start", async () => {
    const child = fork(entry, [], {
      env: { PATH: process.env["PATH"], DRYAPI_PARENT_PID: "1" },
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    assert.deepEqual(await once(child, "exit"), [1, null]);
  });

  it("while the runner is idle ends it through the closed channel", async () => {
    // No setpriv and no watching thread here: what is left is the IPC channel.
    const env = { PATH: process.env["PATH"], DRYAPI_PARENT_PID: String(process.pid) };
    const child = fork(entry, [], { env, stdio: ["ignore", "ignore", "ignore", "ipc"], serialization: "advanced" });
    const [hello] = (await once(child, "message")) as [{ type: string }];
    assert.equal(hello.type, "hello");
    child.disconnect();
    assert.deepEqual(await once(child, "exit"), [null, "SIGKILL"]);
  });

  it("is no state to start in by hand", async () => {
    const child = spawn(process.execPath, [entry], { stdio: ["ignore", "ignore", "pipe"] });
    const said = child.stderr.setEncoding("utf8").toArray();
    assert.deepEqual(await once(child, "exit"), [2, null]);
    assert.match((await said).join(""), /part of `dryapi worker`/);
  });

  for (const way of ["setpriv", "thread"]) {
    it(`takes along a runner that is blocked in native code (${way})`, async () => {
      const parent = fork(join(FIXTURES, "runner-parent.ts"), [way], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
      const [told] = (await once(parent, "message")) as [{ pid: number; dir: string }];
      assert.equal(isAlive(told.pid), true);
      parent.kill("SIGKILL");
      await once(parent, "exit");
      await until("the end of the runner", () => !isAlive(told.pid));
      await rm(told.dir, { recursive: true, force: true });
    });
  }
});

/** A zombie is dead: whether its new parent has collected it is not ours. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return true;
}
