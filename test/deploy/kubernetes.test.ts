import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtempDisposable, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { scanModels } from "../../src/models/scan-models.ts";
import { isWorkload, KUBERNETES, read, render, renderAll, validate, VERSIONS } from "../support/kubernetes.ts";

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, "..", "..");
const MODELS = join(ROOT, "models");
const rendered = await renderAll();

test(`every overlay, example and manifest in the handbook is valid for Kubernetes ${VERSIONS.join(", ")}`, async () => {
  const texts = new Map(rendered);
  for (const file of (await readdir(join(KUBERNETES, "examples"))).filter((name) => name.endsWith(".yaml"))) {
    texts.set(`examples/${file}`, await readFile(join(KUBERNETES, "examples", file), "utf8"));
  }
  const page = await readFile(join(ROOT, "docs", "kubernetes.md"), "utf8");
  const snippets = [...page.matchAll(/```yaml\n(apiVersion: (?!kustomize)[^]*?)```/g)].map(([, yaml]) => yaml ?? "");
  assert.ok(snippets.length > 0, "docs/kubernetes.md shows no manifest");
  texts.set("docs/kubernetes.md", snippets.join("---\n"));
  const { documents, checks, problems } = await validate(texts);
  assert.deepEqual(problems, []);
  // Each document was met with something: the operators' by one schema, all others by three.
  const all = [...documents.values()].flat();
  const operators = all.filter(({ apiVersion }) => /^(monitoring\.coreos\.com|keda\.sh)\//.test(apiVersion));
  assert.equal(checks, (all.length - operators.length) * VERSIONS.length + operators.length);
  assert.ok(operators.some(({ kind }) => kind === "ScaledObject"));
  const monitored = documents.get("overlays/monitoring") ?? [];
  assert.ok(
    monitored.some(({ kind }) => kind === "PrometheusRule"),
    "alerts",
  );
  assert.deepEqual(
    monitored.filter(({ kind }) => kind === "PodMonitor").map(({ metadata }) => metadata.name),
    ["dryapi-gateway", "dryapi-worker"],
  );
});

test("a cluster without the Prometheus operator and KEDA can take the overlays that run workers", () => {
  for (const name of ["nvidia", "nvidia-per-gpu", "cpu"]) {
    assert.doesNotMatch(rendered.get(`overlays/${name}`) ?? assert.fail(name), /monitoring\.coreos\.com|keda\.sh/);
  }
});

test("a misspelt field or a value of another type is found in every kind of manifest", async () => {
  const faults: readonly (readonly [overlay: string, right: string, wrong: string, found: RegExp])[] = [
    ["nvidia", "readOnlyRootFilesystem", "readOnlyRootFileSystem", /1\.30: .*readOnlyRootFileSystem/],
    ["nvidia", "unhealthyPodEvictionPolicy", "unhealthyPodEvictionPolice", /1\.37: .*unhealthyPodEvictionPolice/],
    ["cpu", "policyTypes", "policyType", /1\.34: .*policyType/],
    ["nvidia", "replicas: 2", "replicas: two", /'two' is not of type 'integer'/],
    [
      "nvidia-per-gpu",
      "apiVersion: policy/v1\n",
      "apiVersion: policy/v1beta1\n",
      /1\.30: Couldn't find schema for kind PodDisruptionBudget/,
    ],
    ["monitoring", "scrapeTimeout", "scrapeTimeOut", /scrapeTimeOut is no field of PodMonitor/],
    ["monitoring", "port: admin", "port: 9464", /podMetricsEndpoints\.0\.port: Input should be a valid string/],
    ["keda", "maxReplicaCount", "maxReplicasCount", /maxReplicasCount is no field of ScaledObject/],
  ];
  const texts = faults.map(([overlay, right, wrong], index) => {
    const text = rendered.get(`overlays/${overlay}`) ?? assert.fail(overlay);
    assert.ok(text.includes(right), `${overlay} has no ${right}`);
    return [`${index}`, text.replaceAll(right, wrong)] as const;
  });
  const { problems } = await validate(new Map(texts));
  for (const [index, [, , , found]] of faults.entries()) {
    const own = problems.filter((problem) => problem.startsWith(`${index}.yaml`));
    assert.ok(
      own.some((problem) => found.test(problem)),
      `${String(found)} in ${own.join("\n")}`,
    );
  }
});

test("gateways read the manifests that a ConfigMap brings, as the kubelet lays them out, without any weights", async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), "dryapi-gateway-manifests-"));
  await run(join(KUBERNETES, "gateway-manifests.sh"), [MODELS, join(folder.path, "manifests")]);
  const own = { namespace: "dryapi", resources: [relative(folder.path, join(KUBERNETES, "base"))], components: ["manifests"] };
  await writeFile(join(folder.path, "kustomization.yaml"), JSON.stringify(own));
  const { documents, problems } = await validate(new Map([["own", await render(folder.path)]]));
  assert.deepEqual(problems, []);
  const manifests = documents.get("own") ?? [];
  const { spec } = manifests.find(isWorkload)?.spec.template ?? assert.fail("there is no gateway");
  const volume = spec.volumes.find(({ name }) => name === "manifests");
  const config = manifests.find(({ metadata }) => metadata.name === volume?.configMap?.name);
  assert.equal(spec.containers[0]?.volumeMounts.find(({ name }) => name === "manifests")?.mountPath, "/models");
  assert.equal(manifests.find(({ metadata }) => metadata.name.startsWith("dryapi-gateway-"))?.data?.["DRYAPI_MODELS_DIR"], "/models");

  // The kubelet writes into a dated folder, points `..data` at it and the names at `..data`, so that a change is one rename.
  const mounted = join(folder.path, "mounted");
  for (const { key, path } of volume?.configMap?.items ?? []) {
    const file = join(mounted, "..2026_12_01", path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, config?.data?.[key] ?? assert.fail(`the ConfigMap has no ${key}`));
  }
  await symlink("..2026_12_01", join(mounted, "..data"));
  for (const slug of await readdir(join(mounted, "..data"))) await symlink(`..data/${slug}`, join(mounted, slug));

  const { models, invalid, notes } = await scanModels({ modelDirs: [mounted], shippedDir: join(folder.path, "manifests") });
  // The folder that stands in for the package's has none, and that is told, too.
  assert.deepEqual([invalid, notes.filter((note) => note.includes(mounted))], [[], []]);
  const slugs = (await readdir(MODELS, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name);
  assert.deepEqual([...models.keys()].toSorted(), slugs.toSorted());
});

test("a models folder without manifests is refused by name", async () => {
  await assert.rejects(run(join(KUBERNETES, "gateway-manifests.sh"), [tmpdir(), join(tmpdir(), "never")]), {
    code: 2,
    stderr: `gateway-manifests: ${tmpdir()} has no folder with a model.json; expected a folder as DRYAPI_MODELS_DIR names it\n`,
  });
});

test("KEDA's query counts waiting work once, however many gateways there are, and keeps busy workers of the pool", async () => {
  const scaled = ((await read(rendered)).get("overlays/keda") ?? []).find(({ kind }) => kind === "ScaledObject")?.spec as {
    readonly triggers: readonly { readonly metadata: { readonly query: string; readonly threshold: string } }[];
  };
  const { query = "", threshold = "" } = scaled.triggers[0]?.metadata ?? {};
  const work = (gateway: string, model: string, seconds: string): object => ({
    series: `dryapi_queue_work_seconds{pod="dryapi-gateway-${gateway}",model="${model}"}`,
    values: seconds,
  });
  const runners = (pod: string, state: string, values: string): object => ({
    series: `dryapi_runners{pod="${pod}",state="${state}"}`,
    values,
  });
  const cases = [
    // Two gateways, two models: 300 + 60 s of work wait. Two workers of the pool are busy, one of them with two runners; another pool's does not count.
    {
      input_series: [
        ...["a", "b"].flatMap((gateway) => [work(gateway, "Flux1dev", "300"), work(gateway, "Kokoro", "60")]),
        runners("dryapi-worker-scaled-1-x", "busy", "2"),
        runners("dryapi-worker-scaled-1-y", "busy", "1"),
        runners("dryapi-worker-scaled-1-z", "busy", "0"),
        runners("dryapi-worker-q7k2p", "busy", "4"),
      ],
      value: 360 + 2 * Number(threshold),
    },
    { input_series: [work("a", "Flux1dev", "30"), runners("dryapi-worker-scaled-1-x", "ready", "1")], value: 30 },
    // No gateway answers: no value, so that KEDA takes its fallback instead of scaling down.
    { input_series: [runners("dryapi-worker-scaled-1-x", "busy", "1")], value: null },
  ];
  await using folder = await mkdtempDisposable(join(tmpdir(), "dryapi-keda-"));
  const tests = cases.map(({ input_series, value }) => ({
    interval: "15s",
    input_series,
    promql_expr_test: [{ expr: query, eval_time: "0s", exp_samples: value === null ? [] : [{ labels: "{}", value }] }],
  }));
  const file = join(folder.path, "tests.json");
  await writeFile(file, JSON.stringify({ rule_files: [], evaluation_interval: "15s", tests }));
  const { stdout } = await run("promtool", ["test", "rules", file]);
  assert.match(stdout, /SUCCESS/);
});
