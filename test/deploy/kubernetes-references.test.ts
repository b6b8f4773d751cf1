import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { readConfig, unknownSettings, type Config } from "../../src/config/config.ts";
import type { Setting } from "../../src/config/setting.ts";
import { FOREIGN_SETTINGS, SETTINGS } from "../../src/config/settings.ts";
import { MAX_REQUEST_BYTES } from "../../src/gateway/body/upload.ts";
import { CLOSE_GRACE_MS } from "../../src/gateway/main.ts";
import { bytesOf, envValue, podOf, portsOf, programOf, selectorOf, selects, type NetworkPolicySpec } from "../support/kubernetes-pods.ts";
import { isWorkload, KUBERNETES, read, renderAll, type Manifest, type Selector, type Workload } from "../support/kubernetes.ts";

const ROOT = join(KUBERNETES, "..", "..");
/** The secrets that docs/kubernetes.md has one create. */
const SECRETS = ["dryapi", "dryapi-gateway"];
const BESIDE = ["overlays/monitoring", "overlays/keda"];
const SYSTEMS = ["overlays/nvidia", "overlays/nvidia-per-gpu", "overlays/cpu", "examples/my-cluster"];

const rendered = await read(await renderAll());
const all = [...rendered.values()].flat();
const workloads = [...rendered].flatMap(([overlay, manifests]) =>
  manifests.filter(isWorkload).map((workload) => ({ overlay, workload, where: `${overlay}: ${workload.metadata.name}` })),
);
const workers = workloads.filter(({ workload }) => programOf(workload) === "worker");
const gateways = workloads.filter(({ workload }) => programOf(workload) === "gateway");

test("each overlay has what it says", () => {
  assert.deepEqual([...rendered.keys()].toSorted(), [...BESIDE, ...SYSTEMS].toSorted());
  for (const overlay of SYSTEMS) {
    const kinds = (rendered.get(overlay) ?? []).map(({ kind }) => kind);
    for (const kind of ["Namespace", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"])
      assert.ok(kinds.includes(kind), `${overlay}: ${kind}`);
  }
  assert.equal(workers.length, 5);
  assert.equal(gateways.length, SYSTEMS.length);
  for (const { kind, metadata } of all) if (kind !== "Namespace") assert.equal(metadata.namespace, "dryapi", metadata.name);
});

test("every program gets settings of its own alone, and accepts them", () => {
  const rows = new Map<string, Setting<unknown>>(Object.values(SETTINGS).map((row) => [row.env, row]));
  const foreign = new Map(FOREIGN_SETTINGS.map((row) => [row.env, row]));
  for (const { overlay, workload, where } of workloads) {
    const program = programOf(workload);
    const env = envOf(overlay, workload);
    assert.ok(Object.keys(env).length > 3, where);
    assert.deepEqual(unknownSettings(env), [], where);
    for (const name of Object.keys(env)) {
      const row = rows.get(name);
      if (row !== undefined) assert.ok(row.programs.includes(program), `${where}: ${name} is no setting of ${program}`);
      else assert.ok(foreign.has(name), `${where}: ${name} is no setting`);
      assert.ok(
        row?.secret !== true && foreign.get(name)?.secret !== true && row?.env !== "REDIS_URL",
        `${where}: ${name} belongs into a secret`,
      );
    }
    const config = configOf(overlay, workload);
    assert.match(config.storeUrl, /^s3:/, `${where}: a file: store is one machine's`);
    assert.equal(config.adminHost, "0.0.0.0", where);
  }
});

test("the programs of one system name one store, and gateways one public address", () => {
  for (const overlay of SYSTEMS) {
    const stores = workloads.filter((row) => row.overlay === overlay).map(({ workload }) => configOf(overlay, workload).storeUrl);
    assert.equal(new Set(stores).size, 1, `${overlay}: ${stores.join()}`);
  }
  for (const { overlay, workload, where } of gateways) assert.match(configOf(overlay, workload).publicUrl ?? "", /^https:/, where);
});

test("the kubelet waits longer than a program takes to end", () => {
  for (const { overlay, workload, where } of workers) {
    const graceMs = configOf(overlay, workload).shutdownGraceMs;
    assert.ok(podOf(workload).terminationGracePeriodSeconds * 1_000 >= graceMs + 30_000, where);
  }
  for (const { workload, where } of gateways) {
    const { terminationGracePeriodSeconds: seconds, containers } = podOf(workload);
    const preStop = containers[0]?.lifecycle?.preStop?.sleep?.seconds ?? assert.fail(`${where}: no preStop`);
    assert.ok(preStop >= 5, where);
    assert.ok(seconds * 1_000 >= preStop * 1_000 + CLOSE_GRACE_MS + 20_000, where);
  }
});

test("a rollout over 200 hosts takes an hour or so and not 17", () => {
  for (const { workload, where } of workers) {
    const { rollingUpdate } = workload.spec.updateStrategy ?? workload.spec.strategy ?? assert.fail(where);
    const [, percent] = /^(\d+)%$/.exec(String(rollingUpdate.maxUnavailable)) ?? assert.fail(`${where}: ${rollingUpdate.maxUnavailable}`);
    const waves = Math.ceil(100 / Number(percent));
    assert.ok((waves * podOf(workload).terminationGracePeriodSeconds) / 60 <= 60, where);
    // A GPU cannot have two daemons: no successor before the end.
    assert.ok(rollingUpdate.maxSurge === undefined ? workload.kind === "DaemonSet" : rollingUpdate.maxSurge === 0, where);
  }
});

test("everything that a pod names is there", () => {
  for (const { overlay, workload, where } of workloads) {
    const pod = podOf(workload);
    const names = (kind: string): string[] =>
      (rendered.get(overlay) ?? []).filter((row) => row.kind === kind).map(({ metadata }) => metadata.name);
    // The overlays that stand beside another one use its account.
    const accounts = BESIDE.includes(overlay)
      ? all.filter(({ kind }) => kind === "ServiceAccount").map(({ metadata }) => metadata.name)
      : names("ServiceAccount");
    assert.ok(accounts.includes(pod.serviceAccountName), `${where}: ${pod.serviceAccountName}`);
    const volumes = pod.volumes.map(({ name }) => name);
    const containers = [...(pod.initContainers ?? []), ...pod.containers];
    assert.deepEqual(new Set(containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name))), new Set(volumes), where);
    for (const { envFrom = [] } of containers) {
      for (const { configMapRef, secretRef } of envFrom) {
        if (configMapRef !== undefined) assert.ok(names("ConfigMap").includes(configMapRef.name), `${where}: ${configMapRef.name}`);
        if (secretRef !== undefined) assert.ok(SECRETS.includes(secretRef.name), `${where}: ${secretRef.name}`);
      }
    }
    const config = configOf(overlay, workload);
    const expected = programOf(workload) === "gateway" ? { admin: config.adminPort, http: config.httpPort } : { admin: config.adminPort };
    assert.deepEqual(portsOf(workload), expected, `${where}: ports and settings differ`);
    for (const { startupProbe, livenessProbe, readinessProbe } of pod.containers) {
      assert.deepEqual(
        [startupProbe, livenessProbe, readinessProbe].map((probe) => probe?.httpGet),
        [
          { path: "/healthz", port: "admin" },
          { path: "/healthz", port: "admin" },
          { path: "/readyz", port: "admin" },
        ],
      );
    }
  }
});

test("every selector finds pods, and no pod belongs to two", () => {
  for (const { workload, where } of workloads) {
    const { selector, template } = workload.spec;
    assert.ok(selects(selector, template.metadata.labels), where);
    for (const { labelSelector } of podOf(workload).topologySpreadConstraints ?? [])
      assert.ok(selects(labelSelector, template.metadata.labels), where);
  }
  // Pools that may run side by side: the nodes' and each Deployment's.
  for (const [left, right] of [
    ["nvidia", "keda"],
    ["nvidia-per-gpu", "keda"],
    ["cpu", "keda"],
  ] as const) {
    const pools = workers.filter(({ overlay }) => [left, right].some((name) => overlay === `overlays/${name}`));
    for (const { workload } of pools) {
      const taken = pools.filter((other) => selects(workload.spec.selector, other.workload.spec.template.metadata.labels));
      assert.equal(taken.length, 1, `${left} and ${right}`);
    }
    const budgets = [left, right].flatMap((name) =>
      (rendered.get(`overlays/${name}`) ?? []).filter(({ kind }) => kind === "PodDisruptionBudget"),
    );
    for (const { workload, where } of pools) {
      const own = budgets.filter((budget) =>
        selects((budget.spec as { selector: Selector }).selector, workload.spec.template.metadata.labels),
      );
      // More than one would make every eviction fail.
      assert.equal(own.length, workload.kind === "DaemonSet" ? 0 : 1, where);
    }
  }
  for (const [overlay, manifests] of rendered) {
    for (const { kind, metadata, spec } of manifests) {
      const selector = selectorOf(kind, spec);
      if (selector === null) continue;
      const pods = workloads.filter(
        (row) =>
          (BESIDE.includes(overlay) || row.overlay === overlay) && selects(selector.pods, row.workload.spec.template.metadata.labels),
      );
      assert.ok(pods.length > 0, `${overlay}: ${kind} ${metadata.name} finds no pod`);
      for (const { workload, where } of pods) {
        for (const port of selector.ports)
          assert.ok(port in portsOf(workload), `${overlay}: ${kind} ${metadata.name} names port ${port}, which ${where} has not`);
      }
    }
  }
});

test("the admin port is open to the monitoring namespace alone, the API to the ingress controller's", () => {
  for (const overlay of SYSTEMS) {
    const policies = (rendered.get(overlay) ?? [])
      .filter(({ kind }) => kind === "NetworkPolicy")
      .map(({ spec }) => spec as NetworkPolicySpec);
    const closed = policies.find(({ podSelector, ingress = [] }) => Object.keys(podSelector).length === 0 && ingress.length === 0);
    assert.deepEqual(closed?.policyTypes, ["Ingress", "Egress"], overlay);
    const open = policies.flatMap(({ ingress = [] }) => ingress);
    assert.deepEqual(open.map(({ ports }) => ports.map(({ port }) => port)).toSorted(), [["admin"], ["http"]], overlay);
    for (const { from, ports } of open) {
      const names = from.map(({ namespaceSelector }) =>
        Object.entries(namespaceSelector.matchLabels ?? {})
          .flat()
          .join("="),
      );
      const byName = ports[0]?.port === "admin" ? "monitoring" : "ingress-nginx";
      assert.deepEqual(names, [
        `kubernetes.io/metadata.name=${byName}`,
        `dryapi/${ports[0]?.port === "admin" ? "monitoring" : "ingress"}=true`,
      ]);
    }
  }
});

test("images are pinned to this version, and CUDA's goes to those that use it", async () => {
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { readonly version: string };
  for (const { overlay, workload, where } of workloads) {
    const pod = podOf(workload);
    const cuda = programOf(workload) === "worker" && configOf(overlay, workload).device === "cuda";
    for (const { image } of [...(pod.initContainers ?? []), ...pod.containers]) {
      assert.equal(image.split("/").at(-1), `dryapi-worker:${version}${cuda ? "" : "-cpu"}`, where);
    }
    assert.equal(pod.runtimeClassName, cuda ? "nvidia" : undefined, where);
    const container = pod.containers[0] ?? assert.fail(where);
    const given = container.resources.limits?.["nvidia.com/gpu"] === "1" || envValue(container, "NVIDIA_VISIBLE_DEVICES") === "all";
    assert.equal(given, cuda, `${where}: how the pod gets its GPUs`);
    if (programOf(workload) === "worker") assert.ok(cuda || configOf(overlay, workload).device === "cpu", where);
  }
});

test("each daemon has a name and a state folder of its own", () => {
  for (const { overlay, workload, where } of workers) {
    const pod = podOf(workload);
    const name = pod.containers[0]?.env?.find((row) => row.name === "DRYAPI_WORKER_NAME")?.valueFrom?.fieldRef?.fieldPath;
    const state = pod.volumes.find((volume) => volume.name === "state");
    if (workload.kind === "DaemonSet") {
      assert.equal(name, "spec.nodeName", where);
      assert.equal(state?.hostPath?.path, "/var/lib/dryapi", where);
    } else {
      assert.equal(name, "metadata.name", where);
      // The kubelet evicts a pod whose volume outgrows its limit: the spool must stop before.
      assert.ok(bytesOf(state?.emptyDir?.sizeLimit ?? "0Gi") > configOf(overlay, workload).spoolMaxBytes, where);
    }
    const { models, pinnedModels } = configOf(overlay, workload);
    assert.deepEqual([models, pinnedModels], [null, null], `${where}: which models a cluster serves is its own choice`);
  }
});

test("workers on the CPU have room for the models that can run there", async () => {
  const needs = await Promise.all(
    ["WhisperLargeV3", "MusicgenSmall", "Kokoro"].map(async (slug) => {
      const manifest = JSON.parse(await readFile(join(ROOT, "models", slug, "model.json"), "utf8")) as {
        readonly memoryBytes: { readonly cpu: number };
      };
      return manifest.memoryBytes.cpu;
    }),
  );
  const { overlay, workload } = workers.find((row) => row.overlay === "overlays/cpu") ?? assert.fail("no workers on CPUs");
  const { limits = {}, requests = {} } = podOf(workload).containers[0]?.resources ?? {};
  const forModels = bytesOf(limits["memory"] ?? "0Gi") - configOf(overlay, workload).deviceReserveBytes;
  assert.ok(forModels >= needs.reduce((sum, bytes) => sum + bytes, 0), `${forModels} for ${needs.join(" + ")}`);
  assert.equal(requests["memory"], limits["memory"]);
});

test("every container is confined", () => {
  for (const { workload, where } of workloads) {
    const pod = podOf(workload);
    assert.equal(pod.securityContext["runAsNonRoot"], true, where);
    assert.equal(pod.securityContext.seccompProfile?.type, "RuntimeDefault", where);
    assert.deepEqual([pod.automountServiceAccountToken, pod.enableServiceLinks], [false, false], where);
    for (const { name, securityContext, volumeMounts } of [...(pod.initContainers ?? []), ...pod.containers]) {
      assert.equal(securityContext["allowPrivilegeEscalation"], false, `${where} ${name}`);
      assert.equal(securityContext["readOnlyRootFilesystem"], true, `${where} ${name}`);
      assert.deepEqual(securityContext.capabilities.drop, ["ALL"], `${where} ${name}`);
      assert.deepEqual(securityContext.capabilities, name === "state-owner" ? { drop: ["ALL"], add: ["CHOWN"] } : { drop: ["ALL"] });
      const hosts = pod.volumes.filter(({ hostPath }) => hostPath !== undefined).map((volume) => volume.name);
      for (const mount of volumeMounts) if (hosts.includes(mount.name) && mount.readOnly !== true) assert.equal(mount.name, "state", where);
    }
  }
});

test("what scales and what leads in fit the rest", async () => {
  const scaled = (rendered.get("overlays/keda") ?? []).find(({ kind }) => kind === "ScaledObject")?.spec as {
    readonly scaleTargetRef: { readonly kind: string; readonly name: string };
  };
  const target = workers.find(({ overlay }) => overlay === "overlays/keda")?.workload;
  assert.deepEqual([scaled.scaleTargetRef.kind, scaled.scaleTargetRef.name], [target?.kind, target?.metadata.name]);
  assert.equal(target?.spec.replicas, undefined, "replicas are KEDA's to set");
  const examples = await read(
    new Map(
      await Promise.all(
        ["ingress", "gateway-autoscaler"].map(
          async (name) => [name, await readFile(join(KUBERNETES, "examples", `${name}.yaml`), "utf8")] as const,
        ),
      ),
    ),
  );
  const text = JSON.stringify([...examples.values()]);
  assert.match(text, /"backend":\{"service":\{"name":"dryapi-gateway","port":\{"name":"http"\}\}\}/);
  assert.match(text, /"scaleTargetRef":\{"apiVersion":"apps\/v1","kind":"Deployment","name":"dryapi-gateway"\}/);
  const bodyMegabytes = Number(/"nginx.ingress.kubernetes.io\/proxy-body-size":"(\d+)m"/.exec(text)?.[1]);
  assert.ok(bodyMegabytes * 1_024 * 1_024 >= MAX_REQUEST_BYTES, `${bodyMegabytes} MiB`);
});

/** The variables that the ConfigMaps of a workload's only container bring. */
function envOf(overlay: string, workload: Workload): Readonly<Record<string, string>> {
  const { envFrom = [] } = podOf(workload).containers[0] ?? assert.fail(workload.metadata.name);
  const maps = envFrom.map(({ configMapRef }) =>
    (rendered.get(overlay) ?? []).find((row: Manifest) => row.kind === "ConfigMap" && row.metadata.name === configMapRef?.name),
  );
  return Object.assign({}, ...maps.map((map) => map?.data ?? {})) as Record<string, string>;
}

function configOf(overlay: string, workload: Workload): Config {
  return readConfig({ ...envOf(overlay, workload), REDIS_URL: "redis://redis:6379" });
}
