import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../protocol/error.ts";
import { describeConfig, readConfig, secretValues, unknownSettings } from "./config.ts";
import { SETTINGS } from "./settings.ts";

const HOME = { HOME: "/home/ada" };

function problemsOf(env: Record<string, string>): string {
  try {
    readConfig({ ...HOME, ...env });
  } catch (thrown) {
    assert.ok(thrown instanceof AppError);
    assert.equal(thrown.code, "CONFIG_INVALID");
    return thrown.message;
  }
  return assert.fail("the configuration was accepted");
}

test("defaults are valid and the result is frozen", () => {
  const config = readConfig(HOME);
  assert.equal(config.lockMs, 30_000);
  assert.equal(config.retentionMs, 72 * 3_600_000);
  assert.equal(config.redisUrl, null);
  assert.equal(config.stateDir, "/home/ada/.local/state/dryapi");
  assert.equal(config.spoolDir, "/home/ada/.local/state/dryapi/spool");
  assert.equal(config.storeUrl, "file:///home/ada/.local/state/dryapi/objects");
  assert.ok(Object.isFrozen(config));
  assert.ok(Object.isFrozen(config.modelsDirs));
});

test("defaults follow the state folder, systemd's before the user's", () => {
  assert.equal(readConfig({ ...HOME, STATE_DIRECTORY: "/var/lib/dryapi" }).spoolDir, "/var/lib/dryapi/spool");
  assert.equal(readConfig({ ...HOME, STATE_DIRECTORY: "/var/lib/dryapi", DRYAPI_STATE_DIR: "/data" }).spoolDir, "/data/spool");
});

test("an empty variable counts as unset", () => {
  assert.equal(readConfig({ ...HOME, DRYAPI_LOCK_MS: "", REDIS_URL: "  " }).lockMs, 30_000);
});

test("durations, sizes, lists and flags are read with their suffixes", () => {
  const config = readConfig({
    ...HOME,
    DRYAPI_LOCK_MS: "45s",
    DRYAPI_JOB_TIMEOUT_MS: "1.5h",
    DRYAPI_IDLE_UNLOAD_MS: "never",
    DRYAPI_SPOOL_MAX_BYTES: "64MiB",
    DRYAPI_SPOOL_MIN_FREE_BYTES: "2GB",
    DRYAPI_DEVICE: "CUDA",
    DRYAPI_DEVICES: "0, 2",
    DRYAPI_MODELS_DIR: "/a:/b",
    DRYAPI_PREVIEWS: "off",
  });
  assert.equal(config.lockMs, 45_000);
  assert.equal(config.jobTimeoutMs, 5_400_000);
  assert.equal(config.idleUnloadMs, null);
  assert.equal(config.spoolMaxBytes, 64 * 1024 * 1024);
  assert.equal(config.spoolMinFreeBytes, 2_000_000_000);
  assert.equal(config.device, "cuda");
  assert.deepEqual(config.devices, [0, 2]);
  assert.deepEqual(config.modelsDirs, ["/a", "/b"]);
  assert.equal(config.previews, false);
});

test("every problem is reported at once, with variable, value and what was expected", () => {
  const message = problemsOf({ DRYAPI_LOCK_MS: "soon", DRYAPI_ADMIN_PORT: "99999", DRYAPI_DEVICE: "tpu" });
  assert.match(message, /DRYAPI_LOCK_MS is "soon", expected a duration such as/);
  assert.match(message, /DRYAPI_ADMIN_PORT is "99999", expected a whole number from 0 to 65535/);
  assert.match(message, /DRYAPI_DEVICE is "tpu", expected one of auto, cuda, webgpu, cpu/);
});

test("a wrong URL is reported without its password", () => {
  const message = problemsOf({ REDIS_URL: "http://user:hunter22@host" });
  assert.match(message, /REDIS_URL is "http:\/\/user:\[redacted\]@host"/);
  assert.doesNotMatch(message, /hunter22/);
});

test("a duration that a timer cannot hold is refused", () => {
  assert.match(problemsOf({ DRYAPI_STARVATION_MS: "40d" }), /DRYAPI_STARVATION_MS is "40d"/);
});

test("choosing GPUs for the cpu, and pinning a model that is not served, are refused", () => {
  assert.match(problemsOf({ DRYAPI_DEVICE: "cpu", DRYAPI_DEVICES: "0" }), /DRYAPI_DEVICES is "0" while DRYAPI_DEVICE is "cpu"/);
  assert.match(problemsOf({ DRYAPI_DEVICE: "webgpu", DRYAPI_DEVICES: "0" }), /DRYAPI_DEVICES is "0" while DRYAPI_DEVICE is "webgpu"/);
  assert.match(problemsOf({ DRYAPI_DEVICES: "0,1,0" }), /DRYAPI_DEVICES is "0,1,0", expected each GPU once: 0 is there twice/);
  assert.match(problemsOf({ DRYAPI_MODELS: "flux-a", DRYAPI_PINNED_MODELS: "flux-b" }), /DRYAPI_PINNED_MODELS names flux-b/);
});

test("a list of separators alone is refused: it would serve no model, or use no GPU", () => {
  for (const env of ["DRYAPI_MODELS", "DRYAPI_PINNED_MODELS", "DRYAPI_DEVICES", "DRYAPI_MODELS_DIR", "DRYAPI_EGRESS_ALLOW"]) {
    const separator = env === "DRYAPI_MODELS_DIR" ? ":" : ",";
    assert.match(problemsOf({ [env]: ` ${separator} ${separator}` }), new RegExp(`${env} is `));
    readConfig({ ...HOME, [env]: "" });
  }
});

test("test models are asked for by a word of their own", () => {
  assert.equal(readConfig(HOME).testModels, false);
  assert.equal(readConfig({ ...HOME, DRYAPI_TEST_MODELS: "on" }).testModels, true);
});

test("the description shows every setting, hides secrets and survives invalid values", () => {
  const rows = describeConfig({
    ...HOME,
    REDIS_URL: "redis://u:hunter22@h/0",
    AWS_SECRET_ACCESS_KEY: "very-secret-key",
    DRYAPI_LOCK_MS: "soon",
  });
  const row = (env: string) => rows.find((each) => each.env === env);
  for (const setting of Object.values(SETTINGS)) assert.ok(row(setting.env), setting.env);
  assert.equal(row("REDIS_URL")?.value, "redis://u:[redacted]@h/0");
  assert.equal(row("AWS_SECRET_ACCESS_KEY")?.value, "(hidden)");
  assert.match(row("DRYAPI_LOCK_MS")?.problem ?? "", /DRYAPI_LOCK_MS is "soon"/);
  assert.equal(row("DRYAPI_NAMESPACE")?.source, "default");
  assert.doesNotMatch(JSON.stringify(rows), /hunter22|very-secret-key/);
});

test("variables that look like ours and are not are found", () => {
  assert.deepEqual(unknownSettings({ DRYAPI_LOKC_MS: "1", DRYAPI_LOCK_MS: "1s", OTHER: "x" }), ["DRYAPI_LOKC_MS"]);
});

test("the secrets for the logger are the keys and the Redis password in both spellings", () => {
  const env = { REDIS_URL: "redis://u:p%40ssword@h", AWS_SECRET_ACCESS_KEY: "very-secret-key" };
  assert.deepEqual([...secretValues(env)].toSorted(), ["p%40ssword", "p@ssword", "very-secret-key"]);
});

test("no two settings share a variable, and each says what it means and who reads it", () => {
  const rows = Object.values(SETTINGS);
  assert.equal(new Set(rows.map(({ env }) => env)).size, rows.length);
  for (const row of rows) {
    assert.ok(row.meaning.endsWith("."), row.env);
    assert.ok(row.programs.length > 0, row.env);
  }
});

test("every form of a Redis address is taken, and the password in it is a secret", () => {
  for (const url of ["redis://h", "rediss://u:p@h:6380/1", "unix:/run/redis.sock", "redis+sentinel://u:hunter22@a:26379,b:26379/main"]) {
    assert.equal(readConfig({ ...HOME, REDIS_URL: url }).redisUrl, url);
  }
  assert.deepEqual(secretValues({ REDIS_URL: "redis+sentinel://u:hunter22@a:26379,b:26379/main" }), ["hunter22"]);
});

test("options of onnxruntime are JSON, and libraries of providers have names", () => {
  const config = readConfig({
    ...HOME,
    DRYAPI_RUNTIME_OPTIONS: '{"cuda":{"gpu_mem_limit":8589934592},"providers":{"cpu":["openvino"]}}',
    DRYAPI_EP_LIBRARIES: "openvino=/opt/ep/libopenvino.so, other=/opt/other.so",
  });
  assert.deepEqual(config.runtimeOptions, { cuda: { gpu_mem_limit: 8_589_934_592 }, providers: { cpu: ["openvino"] } });
  assert.deepEqual(config.epLibraries, { openvino: "/opt/ep/libopenvino.so", other: "/opt/other.so" });
  assert.deepEqual([readConfig(HOME).runtimeOptions, readConfig(HOME).epLibraries], [null, null]);
});

test("what is wrong with options of onnxruntime is said by name", () => {
  assert.match(problemsOf({ DRYAPI_RUNTIME_OPTIONS: "cuda" }), /DRYAPI_RUNTIME_OPTIONS is "cuda", expected JSON such as .*: .*JSON/);
  const problems = problemsOf({ DRYAPI_RUNTIME_OPTIONS: '{"cuda":{"gpu_mem_limit":-1,"use_tf33":true}}' });
  assert.match(problems, /cuda\.gpu_mem_limit: /);
  assert.match(problems, /cuda: unknown: use_tf33; expected /);
  assert.match(
    problemsOf({ DRYAPI_RUNTIME_OPTIONS: '{"providers":{"cuda":["trtrtx","cuda"]}}' }),
    /DRYAPI_RUNTIME_OPTIONS names the provider trtrtx, expected DRYAPI_EP_LIBRARIES to have its library/,
  );
  for (const wrong of ["/opt/x.so", "a=/x.so,a=/y.so", "cuda=/x.so", "A=/x.so", "a="]) {
    assert.match(problemsOf({ DRYAPI_EP_LIBRARIES: wrong }), /DRYAPI_EP_LIBRARIES is .*, expected names and paths such as openvino=/);
  }
});
