/**
 * Dockerfile.cuda, carried out step by step in a child process. The full proof, with Debian's packages and a job through the image, is
 * `scripts/verify image`.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { readConfig, unknownSettings } from "../../src/config/config.ts";
import { readContext } from "../support/image/build-context.ts";
import { execForm, expand, pairs, parseDockerfile } from "../support/image/dockerfile.ts";
import { whyNoNamespaces } from "../support/image/own-namespaces.ts";

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, "..", "..");
const dockerfile = parseDockerfile("Dockerfile.cuda", await readFile(join(ROOT, "Dockerfile.cuda"), "utf8"));

interface Replayed {
  readonly targets: Readonly<Record<"cpu" | "cuda", Readonly<Record<string, number>>>>;
  readonly without: readonly { readonly line: number; readonly text: string; readonly error: string | null }[];
}

const missing = whyNoNamespaces();

test(
  "every step of Dockerfile.cuda runs, and none of its COPY lines can be left out",
  { skip: missing ?? false, timeout: 700_000 },
  async () => {
    const { stdout } = await run(process.execPath, [join(ROOT, "scripts/replay-image.ts")], { maxBuffer: 64 * 1024 * 1024 });
    const { targets, without } = JSON.parse(stdout) as Replayed;
    // Megabytes. Before anything was pruned the packages had 626.
    for (const sizes of [targets.cpu, targets.cuda]) assert.ok((sizes["/app/node_modules"] ?? Infinity) < 180, JSON.stringify(sizes));
    assert.ok(without.length >= 15, `${without.length} COPY lines`);
    for (const { line, text, error } of without) assert.ok(error !== null, `line ${line} can be left out: ${text}`);
    const assets = without.find(({ text }) => text.includes("copy-assets.ts"));
    assert.match(assets?.error ?? "", /RUN npm run build.*Cannot find module '\/app\/scripts\/copy-assets\.ts'/s);
  },
);

/** An instruction's lines in one stage. */
function linesOf(stage: string, op: string): string[] {
  const found = dockerfile.stages.find(({ name }) => name === stage);
  assert.ok(found, stage);
  return found.steps.filter((step) => step.op === op).map(({ rest }) => rest);
}

test("both targets set valid settings, and differ in the device alone", async () => {
  const { version, license } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { version: string; license: string };
  const [cpu, cuda] = ["cpu", "cuda"].map((stage) => pairs(linesOf(stage, "ENV").join(" "), {}));
  assert.ok(cpu && cuda);
  for (const env of [cpu, cuda]) {
    assert.deepEqual(unknownSettings(env), []);
    readConfig({ ...env, DRYAPI_ORT_DIR: undefined, REDIS_URL: "redis://127.0.0.1" });
  }
  const { DRYAPI_DEVICE, DRYAPI_ORT_DIR, NVIDIA_VISIBLE_DEVICES, NVIDIA_DRIVER_CAPABILITIES, ...rest } = cuda;
  assert.deepEqual({ ...rest, DRYAPI_DEVICE: "cpu" }, cpu);
  assert.deepEqual(
    [DRYAPI_DEVICE, DRYAPI_ORT_DIR, NVIDIA_VISIBLE_DEVICES, NVIDIA_DRIVER_CAPABILITIES],
    ["cuda", "/opt/ort", "all", "compute,utility,video"],
  );
  for (const op of ["USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD", "WORKDIR"])
    assert.deepEqual(linesOf("cuda", op), linesOf("cpu", op), op);
  for (const stage of ["cpu", "cuda"]) {
    const given = linesOf(stage, "ARG").find((arg) => arg.startsWith("VERSION="));
    assert.equal(given, `VERSION=${version}`);
    const labels = pairs(linesOf(stage, "LABEL").join(" "), { VERSION: version, REVISION: "abc", CPU_IMAGE: "base", CUDA_IMAGE: "base" });
    assert.equal(labels["org.opencontainers.image.version"], version);
    assert.equal(labels["org.opencontainers.image.licenses"], license);
    assert.equal(labels["org.opencontainers.image.base.name"], "base");
  }
});

test("every base image is an ARG that may carry a digest, and the last stage is the one for CUDA", () => {
  const defaults = Object.assign({}, ...dockerfile.globals.map(({ rest }) => pairs(rest, {}))) as Record<string, string>;
  const names = new Set<string>();
  for (const { name, base } of dockerfile.stages) {
    if (!names.has(base)) {
      const [, arg = ""] = /^\$\{(\w+_IMAGE)\}$/.exec(base) ?? [];
      assert.ok(defaults[arg], `${name} is FROM ${base}`);
      assert.equal(expand(base, { ...defaults, [arg]: "image:tag@sha256:0" }), "image:tag@sha256:0");
    }
    names.add(name);
  }
  assert.equal(dockerfile.stages.at(-1)?.name, "cuda");
});

test("what the replay does not understand is refused with file and line", () => {
  const refused = (text: string, message: RegExp): void => {
    assert.throws(() => parseDockerfile("F", text), message);
  };
  refused("FROM a\nADD x y\n", /^Error: F:2: ADD: not an instruction/);
  refused("FROM a\n\nCOPY --link x y\n", /F:3: COPY --link: not a flag/);
  refused("FROM a\nRUN --mount=type=cache,target=/x true\n", /F:2: RUN --mount: not a flag/);
  refused("FROM a\nRUN <<EOF\ntrue\nEOF\n", /F:2: here-documents/);
  refused("RUN true\nFROM a\n", /F:1: RUN before the first FROM/);
  refused("FROM a AS\n", /F:1: FROM a AS: expected/);
  refused("FROM a AS x\nFROM b AS x\n", /F:2: there is a stage x already/);
  refused("FROM a\nRUN true \\\n", /F:2: the instruction goes on past the end/);
  refused("# escape=`\nFROM a\n", /F:1: parser directives/);
  refused("# nothing\n", /has no FROM/);
  assert.throws(() => expand("${NO}", {}), /no ARG or ENV/);
  assert.throws(() => execForm("['a']"), /JSON/);
  assert.throws(() => pairs("a b", {}), /name=value/);
});

test("instructions are read as the reference describes", () => {
  const { stages } = parseDockerfile(
    "F",
    'from a as x\n  # remark\nrun one \\\n# remark\n\n  && two\nCOPY --from=x --chown=1:2 /a b/\nCMD ["x", "y z"]\n',
  );
  assert.deepEqual(
    stages[0]?.steps.map(({ line, op, flags, rest }) => [line, op, flags, rest]),
    [
      [3, "RUN", {}, "one   && two"],
      [7, "COPY", { from: "x", chown: "1:2" }, "/a b/"],
      [8, "CMD", {}, '["x", "y z"]'],
    ],
  );
  assert.deepEqual(execForm('["x", "y z"]'), ["x", "y z"]);
  assert.equal(execForm("x y"), null);
  assert.equal(expand("$A/${B}/${C:-d}/${A:+e}/${C:+f}", { A: "1", B: "2" }), "1/2/d/e/");
  assert.deepEqual(pairs(`A=1 b.c="two \\"words\\" $V" D='$V'  E=$V`, { V: "v" }), { A: "1", "b.c": 'two "words" v', D: "$V", E: "v" });
});

async function contextOf(
  t: { after(work: () => Promise<void>): void },
  ignore: string,
  ...files: readonly string[]
): Promise<readonly string[]> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-context-"));
  t.after(() => rm(dir, { recursive: true }));
  for (const file of files) {
    await mkdir(dirname(join(dir, file)), { recursive: true });
    await writeFile(join(dir, file), "");
  }
  await writeFile(join(dir, ".dockerignore"), ignore);
  const context = await readContext(dir, "Dockerfile");
  return context.filesOf(".").filter((file) => file !== ".dockerignore");
}

test(".dockerignore counts as for a builder: the last pattern that matches, folders with all that is in them", async (t) => {
  const files = [
    ".git/HEAD",
    "a.ts",
    "src/a.ts",
    "src/deep/a.test.ts",
    "src/deep/b.ts",
    "scripts/x.sh",
    "scripts/y.sh",
    "node_modules/m/src/i.js",
  ];
  assert.deepEqual(await contextOf(t, "node_modules\n.git\n# no\n", ...files), [
    "a.ts",
    "scripts/x.sh",
    "scripts/y.sh",
    "src/a.ts",
    "src/deep/a.test.ts",
    "src/deep/b.ts",
  ]);
  assert.deepEqual(await contextOf(t, "*\n!src\n!scripts/x.sh\nsrc/**/*.test.ts\n", ...files), [
    "scripts/x.sh",
    "src/a.ts",
    "src/deep/b.ts",
  ]);
  assert.deepEqual(await contextOf(t, "**/*.ts\n!/src/a.ts\nscripts/?.sh/\n.git*\n", ...files), ["node_modules/m/src/i.js", "src/a.ts"]);
  await assert.rejects(contextOf(t, "[ab]\n", "a"), /not understood/);
});

test("the build context has nothing of a checkout but what is copied", async () => {
  const context = await readContext(ROOT, "Dockerfile.cuda");
  const copied = dockerfile.stages.flatMap(({ steps }) => steps).filter(({ op, flags }) => op === "COPY" && flags["from"] === undefined);
  const sources = copied.flatMap(({ rest }) => rest.split(/\s+/).slice(0, -1));
  const used = new Set(sources.flatMap((source) => context.filesOf(source)));
  assert.deepEqual(
    context.filesOf(".").filter((file) => !used.has(file)),
    [],
  );
});
