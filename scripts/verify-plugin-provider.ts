/**
 * `scripts/verify plugin-provider`: an execution provider that others have built is loaded by path into the npm package's onnxruntime, by the
 * code that a runner uses. Its devices are read, the probe's model runs on it with a right result, the profile names it, its options come
 * back, and a graph that it does not take is refused. The provider is nxrt-ep-cpu of PyPI, which needs no GPU.
 *
 *   node scripts/verify-plugin-provider.ts LIBRARY
 */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RuntimeOptions } from "../src/protocol/runtime-options.ts";
import { AppError } from "../src/protocol/error.ts";
import { openBackend } from "../src/runner/open-backend.ts";
import { openEnvironment } from "../src/runner/ort/environment.ts";
import { pluginDevices } from "../src/runner/ort/plugin-libraries.ts";
import { PROBE_SIZE, probeModel } from "../src/runner/probe-model.ts";

const device = { kind: "cpu", index: 0, threads: 1 } as const;
const UNWANTED = join(import.meta.dirname, "../test/fixtures/ort/det.onnx");

function say(line: string): void {
  process.stdout.write(`plugin-provider: ${line}\n`);
}

/** Runs y = Relu(a . b) of the probe; resolves to the providers that the profile names. */
async function runProbe(dir: string, runtime: RuntimeOptions, epLibraries: Readonly<Record<string, string>>): Promise<ReadonlySet<string>> {
  const path = join(dir, "probe.onnx");
  await writeFile(path, probeModel());
  const reports: string[] = [];
  const onProvider = ({ provider, options }: { readonly provider: string; readonly options: string }) =>
    void reports.push(`${provider} ${options}`.trim());
  const session = await openBackend({ device, profileDir: dir, runtime: () => runtime, epLibraries, onProvider }, "c").open(path);
  const dims = [PROBE_SIZE, PROBE_SIZE];
  const a = Float32Array.from({ length: PROBE_SIZE ** 2 }, (_, at) => (at % (PROBE_SIZE + 1) === 0 ? 2 : 0));
  const b = Float32Array.from(a, (_, at) => (at % 256) - 100);
  const { y } = await session.run({ a: { type: "float32", data: a, dims }, b: { type: "float32", data: b, dims } });
  assert.deepEqual(
    y?.data,
    b.map((value) => Math.max(0, 2 * value)),
  );
  await session.release();
  say(`reported: ${reports.join(" | ") || "nothing"}`);
  const profiles = (await readdir(dir)).filter((name) => name.endsWith(".json"));
  const events = (
    await Promise.all(profiles.map(async (name) => JSON.parse(await readFile(join(dir, name), "utf8")) as unknown))
  ).flat() as {
    readonly cat?: string;
    readonly args?: { readonly provider?: string };
  }[];
  return new Set(events.flatMap(({ cat, args }) => (cat === "Node" && args?.provider !== undefined ? [args.provider] : [])));
}

const [library] = process.argv.slice(2);
assert.ok(library !== undefined, "name the library");
const epLibraries = { nxrt: library };
const env = await openEnvironment();
const devices = pluginDevices(env, "nxrt", epLibraries);
say(`onnxruntime ${env.library.version} finds in it: ${devices.map(({ provider, type }) => `${type} of ${provider}`).join(", ")}`);
assert.equal(devices.length, 1);
const [{ provider, type }] = devices as [(typeof devices)[number]];
assert.equal(type, "CPU");

const dir = await mkdtemp(join(tmpdir(), "plugin-provider-"));
try {
  const runtime = { providers: { cpu: ["nxrt"] }, plugins: { nxrt: { some_option: "some value" } } };
  assert.deepEqual([...(await runProbe(await mkdtemp(join(dir, "on-")), runtime, epLibraries))], [provider]);
  say(`the probe ran on ${provider} alone, with a right result`);
  assert.deepEqual([...(await runProbe(await mkdtemp(join(dir, "off-")), {}, epLibraries))], ["CPUExecutionProvider"]);
  say("without the option it runs on CPUExecutionProvider");
  await assert.rejects(openBackend({ device, runtime: () => runtime, epLibraries }, "c").open(UNWANTED), (thrown: unknown) => {
    assert.ok(thrown instanceof AppError && thrown.code === "MODEL_UNSUPPORTED", String(thrown));
    assert.match(thrown.message, /none of its nodes were taken by/);
    say(thrown.message);
    return true;
  });
  const allowed = { ...runtime, providers: { cpu: ["nxrt", "cpu"] } };
  await (await openBackend({ device, runtime: () => allowed, epLibraries }, "c").open(UNWANTED)).release();
  say("with cpu as the last provider that graph runs on the CPU");
} finally {
  await rm(dir, { recursive: true, force: true });
}
