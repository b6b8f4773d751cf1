/**
 * `node scripts/verify-kubernetes.ts [--hosts 200] [--scale 20]`: the manifests meet a real control plane (scripts/build-control-plane.sh), whose API
 * server accepts every document, and whose controllers roll the workers out over so many hosts, stop a version that does not start, take a worker off
 * a node that is labelled for maintenance, and evict gateways within their budget. Kubelets are fakes: a drain takes 300 s / scale, a start 60 s / scale.
 * Version 1.20 lacks fields that the manifests use: `asOld` takes them out, and test/deploy/kubernetes.test.ts holds them to newer schemas.
 */
import assert from "node:assert/strict";
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";
import { startControlPlane } from "../test/support/control-plane.ts";
import { startFakeKubelets } from "../test/support/fake-kubelets.ts";
import { podOf } from "../test/support/kubernetes-pods.ts";
import { isWorkload, read, renderAll, type Manifest, type Workload } from "../test/support/kubernetes.ts";

const { values } = parseArgs({ options: { hosts: { type: "string", default: "200" }, scale: { type: "string", default: "20" } } });
const [hosts, scale] = [Number(values.hosts), Number(values.scale)];
/** Of a slow machine too: no figure is judged, only that an end comes. */
const PATIENCE_MS = 1_200_000;
const NAMESPACE = "/api/v1/namespaces/dryapi";
const WORKERS = "/apis/apps/v1/namespaces/dryapi/daemonsets/dryapi-worker";
const PATHS: Readonly<Record<string, string>> = {
  ConfigMap: `${NAMESPACE}/configmaps`,
  Service: `${NAMESPACE}/services`,
  ServiceAccount: `${NAMESPACE}/serviceaccounts`,
  DaemonSet: "/apis/apps/v1/namespaces/dryapi/daemonsets",
  Deployment: "/apis/apps/v1/namespaces/dryapi/deployments",
  NetworkPolicy: "/apis/networking.k8s.io/v1/namespaces/dryapi/networkpolicies",
  PodDisruptionBudget: "/apis/policy/v1beta1/namespaces/dryapi/poddisruptionbudgets",
};

interface Pods {
  readonly items: readonly {
    readonly metadata: { readonly name: string; readonly deletionGracePeriodSeconds?: number };
    readonly spec: { readonly nodeName?: string };
  }[];
}
interface Workers {
  readonly metadata: { readonly generation: number };
  readonly status: {
    readonly observedGeneration?: number;
    readonly desiredNumberScheduled: number;
    readonly updatedNumberScheduled?: number;
    readonly numberAvailable?: number;
  };
}

await using plane = await startControlPlane();
await using _kubelets = startFakeKubelets(plane, {
  namespace: "dryapi",
  drainMs: 300_000 / scale,
  startMs: 60_000 / scale,
  brokenTag: ":broken",
});
await create("/api/v1/namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name: "dryapi" } });
await create("/apis/node.k8s.io/v1/runtimeclasses", {
  apiVersion: "node.k8s.io/v1",
  kind: "RuntimeClass",
  metadata: { name: "nvidia" },
  handler: "nvidia",
});
for (let host = 0; host < hosts; host += 1)
  await createNode(`gpu-${host}`, { "nvidia.com/gpu.present": "true" }, [{ key: "nvidia.com/gpu", effect: "NoSchedule" }]);
for (const zone of ["a", "b"]) await createNode(`cpu-${zone}`, { "topology.kubernetes.io/zone": zone }, []);

const rendered = await read(await renderAll());
await verifyAcceptance();
for (const manifest of rendered.get("overlays/nvidia") ?? [])
  if (manifest.kind !== "Namespace") await create(pathOf(manifest), asOld(manifest));
await settled("the first start", hosts);
const spread = (await pods("dryapi-gateway")).items.map(({ spec }) => spec.nodeName);
assert.deepEqual(spread.toSorted(), ["cpu-a", "cpu-b"], "each gateway has a node and a zone of its own");
await verifyRollout();
await verifyBrokenVersion();
await verifyMaintenance("gpu-7");
await verifyEviction();

async function verifyAcceptance(): Promise<void> {
  let accepted = 0;
  for (const [overlay, manifests] of rendered) {
    for (const manifest of manifests.filter(({ kind }) => kind in PATHS)) {
      const { status, body } = await plane.call("POST", `${pathOf(manifest)}?dryRun=All`, asOld(manifest));
      assert.equal(status, 201, `${overlay}: ${manifest.kind} ${manifest.metadata.name}: ${JSON.stringify(body)}`);
      accepted += 1;
    }
  }
  // It does look: what no schema forbids.
  const workload = asOld(rendered.get("overlays/nvidia")?.find(isWorkload) ?? assert.fail("no workload")) as Workload;
  const [container] = podOf(workload).containers;
  if (container !== undefined) Object.assign(container.readinessProbe?.httpGet ?? {}, { port: "ad min" });
  const { status, body } = await plane.call<{ readonly message: string }>("POST", `${pathOf(workload)}?dryRun=All`, workload);
  assert.equal(status, 422);
  assert.match(body.message, /readinessProbe\.httpGet\.port/);
  console.log(`${accepted} documents of ${rendered.size} overlays accepted by the API server`);
}

async function verifyRollout(): Promise<void> {
  await setImage("dryapi-worker:next");
  const { least, seconds } = await settled("the rollout", hosts);
  assert.ok(least >= hosts * 0.9, `only ${least} of ${hosts} workers were available`);
  console.log(
    `${hosts} hosts rolled out in ${seconds} s at 1/${scale} of real drains and starts: ${Math.round((seconds * scale) / 60)} min; at least ${least} available`,
  );
}

async function verifyBrokenVersion(): Promise<void> {
  await setImage("dryapi-worker:broken");
  const wave = Math.ceil(hosts / 10);
  await until("the first wave of the broken version", async () => ((await workers()).status.updatedNumberScheduled ?? 0) >= wave);
  // Time enough for three more waves.
  await wait((3 * 360_000) / scale);
  const { status } = await workers();
  assert.deepEqual([status.updatedNumberScheduled, status.numberAvailable], [wave, hosts - wave]);
  await setImage("dryapi-worker:next");
  const { seconds } = await settled("the way back", hosts);
  console.log(`a version that does not start stopped at ${wave} of ${hosts} hosts; the way back took ${seconds} s`);
}

async function verifyMaintenance(node: string): Promise<void> {
  const label = (value: string | null): Promise<unknown> =>
    plane.call("PATCH", `/api/v1/nodes/${node}`, { metadata: { labels: { "dryapi/maintenance": value } } });
  const here = async (): Promise<Pods["items"]> => (await pods("dryapi-worker")).items.filter(({ spec }) => spec.nodeName === node);
  await label("true");
  await until("the worker's end", async () => (await here()).some(({ metadata }) => metadata.deletionGracePeriodSeconds === 300));
  await settled("the fleet without the node", hosts - 1);
  await until("the end of the drain", async () => (await here()).length === 0);
  await label(null);
  await settled("the fleet with the node again", hosts);
  assert.equal((await here()).length, 1);
  console.log("a node with the label dryapi/maintenance lost its worker by a drain, and got one back without the label");
}

async function verifyEviction(): Promise<void> {
  const evict = async (name: string): Promise<number> => {
    const eviction = { apiVersion: "policy/v1beta1", kind: "Eviction", metadata: { name, namespace: "dryapi" } };
    return (await plane.call("POST", `${NAMESPACE}/pods/${name}/eviction`, eviction)).status;
  };
  const [first, second] = (await pods("dryapi-gateway")).items.map(({ metadata }) => metadata.name);
  assert.equal(await evict(first ?? ""), 201);
  assert.equal(await evict(second ?? ""), 429, "the second gateway stays until the first is replaced");
  console.log("of two gateways one was evicted, the other refused meanwhile");
}

/** Waits until so many workers run the wanted version. */
async function settled(what: string, wanted: number): Promise<{ readonly least: number; readonly seconds: number }> {
  const start = performance.now();
  let least = Infinity;
  await until(what, async () => {
    const { metadata, status } = await workers();
    if (status.observedGeneration !== metadata.generation) return false;
    least = Math.min(least, status.numberAvailable ?? 0);
    return [status.desiredNumberScheduled, status.updatedNumberScheduled, status.numberAvailable].every((count) => count === wanted);
  });
  return { least, seconds: Math.round((performance.now() - start) / 1_000) };
}

async function until(what: string, reached: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!(await reached())) {
    if (performance.now() > end)
      throw new Error(`${what} did not come within ${PATIENCE_MS / 1_000} s: ${JSON.stringify((await workers()).status)}`);
    await wait(500);
  }
}

async function workers(): Promise<Workers> {
  return (await plane.call<Workers>("GET", WORKERS)).body;
}

async function pods(name: string): Promise<Pods> {
  return (await plane.call<Pods>("GET", `${NAMESPACE}/pods?labelSelector=app.kubernetes.io%2Fname%3D${name}`)).body;
}

async function setImage(image: string): Promise<void> {
  const { status } = await plane.call("PATCH", WORKERS, { spec: { template: { spec: { containers: [{ name: "worker", image }] } } } });
  assert.equal(status, 200);
}

async function create(path: string, manifest: object): Promise<void> {
  const { status, body } = await plane.call("POST", path, manifest);
  assert.equal(status, 201, JSON.stringify(body));
}

async function createNode(name: string, labels: object, taints: readonly object[]): Promise<void> {
  const room = { cpu: "64", memory: "512Gi", pods: "110", "ephemeral-storage": "500Gi" };
  const conditions = [{ type: "Ready", status: "True" }];
  const metadata = { name, labels: { "kubernetes.io/hostname": name, ...labels } };
  await create("/api/v1/nodes", {
    apiVersion: "v1",
    kind: "Node",
    metadata,
    spec: { taints },
    status: { capacity: room, allocatable: room, conditions },
  });
  // The controller that would take the taint of a new node away does not run.
  await plane.call("PATCH", `/api/v1/nodes/${name}`, [{ op: "replace", path: "/spec/taints", value: taints }]);
}

function pathOf({ kind }: Manifest): string {
  return PATHS[kind] ?? assert.fail(`no path for ${kind}`);
}

/** The manifest without what came after Kubernetes 1.20. */
function asOld(manifest: Manifest): object {
  const old = structuredClone(manifest) as Manifest & { readonly spec: Record<string, unknown> };
  if (old.kind === "PodDisruptionBudget") {
    const { unhealthyPodEvictionPolicy: _, ...spec } = old.spec;
    return { ...old, apiVersion: "policy/v1beta1", spec };
  }
  if (!isWorkload(old)) return old;
  // A second, so that a rollout at a small scale shows drains and starts and not this.
  Object.assign(old.spec, { minReadySeconds: 1 });
  const pod = podOf(old);
  for (const constraint of pod.topologySpreadConstraints ?? [])
    Object.assign(constraint, { matchLabelKeys: undefined, nodeTaintsPolicy: undefined });
  for (const { lifecycle } of pod.containers)
    if (lifecycle?.preStop !== undefined) Object.assign(lifecycle.preStop, { sleep: undefined, exec: { command: ["sleep", "10"] } });
  return old;
}
