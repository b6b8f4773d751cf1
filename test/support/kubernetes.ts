import { execFile } from "node:child_process";
import { mkdtempDisposable, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { runPythonClient } from "./python-client.ts";

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, "..", "..");
export const KUBERNETES: string = join(ROOT, "deploy", "kubernetes");
/** The oldest version that we claim, one between, the newest that the schemas' package has. */
export const VERSIONS: readonly string[] = ["1.30", "1.34", "1.37"];

export type Labels = Readonly<Record<string, string>>;

export interface Selector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] }[];
}

export interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly args?: readonly string[];
  readonly envFrom?: readonly {
    readonly configMapRef?: { readonly name: string };
    readonly secretRef?: { readonly name: string; readonly optional?: boolean };
  }[];
  readonly env?: readonly {
    readonly name: string;
    readonly value?: string;
    readonly valueFrom?: { readonly fieldRef?: { readonly fieldPath: string } };
  }[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly resources: { readonly requests?: Readonly<Record<string, string>>; readonly limits?: Readonly<Record<string, string>> };
  readonly startupProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly lifecycle?: { readonly preStop?: { readonly sleep?: { readonly seconds: number } } };
  readonly securityContext: Readonly<Record<string, unknown>> & { readonly capabilities: { readonly drop: readonly string[] } };
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[];
}

export interface Volume {
  readonly name: string;
  readonly hostPath?: { readonly path: string };
  readonly emptyDir?: { readonly sizeLimit?: string };
  readonly configMap?: { readonly name: string; readonly items?: readonly { readonly key: string; readonly path: string }[] };
}

export interface PodSpec {
  readonly serviceAccountName: string;
  readonly enableServiceLinks?: boolean;
  readonly automountServiceAccountToken?: boolean;
  readonly terminationGracePeriodSeconds: number;
  readonly runtimeClassName?: string;
  readonly topologySpreadConstraints?: readonly { readonly labelSelector: Selector }[];
  readonly securityContext: Readonly<Record<string, unknown>> & { readonly seccompProfile?: { readonly type: string } };
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly Volume[];
}

/** What pods are made of: a DaemonSet or a Deployment. */
export interface Workload extends Manifest {
  readonly kind: "DaemonSet" | "Deployment";
  readonly spec: {
    readonly replicas?: number;
    readonly selector: Selector;
    readonly strategy?: Rollout;
    readonly updateStrategy?: Rollout;
    readonly template: { readonly metadata: { readonly labels: Labels }; readonly spec: PodSpec };
  };
}

interface Rollout {
  readonly rollingUpdate: { readonly maxUnavailable: string | number; readonly maxSurge?: string | number };
}

/** One document of a rendered overlay. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Labels; readonly annotations?: Labels };
  readonly data?: Readonly<Record<string, string>>;
  readonly spec?: unknown;
}

interface Verdict {
  readonly documents: ReadonlyMap<string, readonly Manifest[]>;
  /** Comparisons of a document with a schema. */
  readonly checks: number;
  readonly problems: readonly string[];
}

/** Names of the folders below `overlays/`. */
async function overlays(): Promise<readonly string[]> {
  return (await readdir(join(KUBERNETES, "overlays"))).toSorted();
}

/** Every overlay and the example of an own one, rendered, by name. */
export async function renderAll(): Promise<ReadonlyMap<string, string>> {
  const folders = [...(await overlays()).map((name) => `overlays/${name}`), "examples/my-cluster"];
  return new Map(await Promise.all(folders.map(async (folder) => [folder, await render(join(KUBERNETES, folder))] as const)));
}

/** The YAML that `kubectl apply -k FOLDER` would send. @throws Error with kubectl's words */
export async function render(folder: string): Promise<string> {
  const kubectl = process.env["KUBECTL"] ?? join(ROOT, ".cache", "kubectl", "kubectl");
  const { stdout, stderr } = await run(kubectl, ["kustomize", folder], { maxBuffer: 16 * 1024 * 1024 });
  if (stderr !== "") throw new Error(`kubectl kustomize ${folder}: ${stderr}`);
  return stdout;
}

/** Holds YAML texts, by name, to the schemas of `VERSIONS` and of the operators' resources. */
export function validate(texts: ReadonlyMap<string, string>): Promise<Verdict> {
  return meetSchemas(texts, VERSIONS.join(","));
}

/** The documents of YAML texts, by name. */
export async function read(texts: ReadonlyMap<string, string>): Promise<ReadonlyMap<string, readonly Manifest[]>> {
  return (await meetSchemas(texts, "none")).documents;
}

async function meetSchemas(texts: ReadonlyMap<string, string>, versions: string): Promise<Verdict> {
  await using folder = await mkdtempDisposable(join(tmpdir(), "dryapi-manifests-"));
  const names = [...texts.keys()];
  const files = names.map((name) => join(folder.path, `${name.replaceAll("/", "-")}.yaml`));
  await Promise.all(files.map((file, index) => writeFile(file, texts.get(names[index] ?? "") ?? "")));
  const script = join(ROOT, "test", "deploy", "validate_manifests.py");
  const answer = JSON.parse(await runPythonClient("python", [script, versions, ...files])) as {
    readonly documents: Readonly<Record<string, readonly Manifest[]>>;
    readonly checks: number;
    readonly problems: readonly string[];
  };
  const documents = new Map(names.map((name, index) => [name, answer.documents[files[index] ?? ""] ?? []]));
  return { documents, checks: answer.checks, problems: answer.problems.map((problem) => problem.replaceAll(`${folder.path}/`, "")) };
}

export function isWorkload(manifest: Manifest): manifest is Workload {
  return manifest.kind === "DaemonSet" || manifest.kind === "Deployment";
}
