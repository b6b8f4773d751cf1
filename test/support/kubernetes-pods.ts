import assert from "node:assert/strict";
import type { Container, Labels, PodSpec, Selector, Workload } from "./kubernetes.ts";

export interface NetworkPolicySpec {
  readonly podSelector: Selector;
  readonly policyTypes: readonly string[];
  readonly ingress?: readonly {
    readonly from: readonly { readonly namespaceSelector: Selector }[];
    readonly ports: readonly { readonly port: string }[];
  }[];
}

/** Which pods a manifest is about and which of their ports it names; null where it is about none. */
export function selectorOf(kind: string, spec: unknown): { readonly pods: Selector; readonly ports: readonly string[] } | null {
  switch (kind) {
    case "Service": {
      const { selector, ports } = spec as { selector: Record<string, string>; ports: { targetPort: string }[] };
      return { pods: { matchLabels: selector }, ports: ports.map(({ targetPort }) => targetPort) };
    }
    case "PodDisruptionBudget":
      return { pods: (spec as { selector: Selector }).selector, ports: [] };
    case "NetworkPolicy": {
      const { podSelector, ingress = [] } = spec as NetworkPolicySpec;
      return { pods: podSelector, ports: ingress.flatMap(({ ports }) => ports.map(({ port }) => port)) };
    }
    case "PodMonitor": {
      const { selector, podMetricsEndpoints } = spec as { selector: Selector; podMetricsEndpoints: { port: string }[] };
      return { pods: selector, ports: podMetricsEndpoints.map(({ port }) => port) };
    }
    default:
      return null;
  }
}

export function podOf({ spec }: Workload): PodSpec {
  return spec.template.spec;
}

export function programOf(workload: Workload): "worker" | "gateway" {
  const [program] = podOf(workload).containers[0]?.args ?? [];
  if (program !== "worker" && program !== "gateway") assert.fail(`${workload.metadata.name} runs ${program}`);
  return program;
}

export function portsOf(workload: Workload): Readonly<Record<string, number>> {
  return Object.fromEntries(
    podOf(workload).containers.flatMap(({ ports = [] }) => ports.map(({ name, containerPort }) => [name, containerPort])),
  );
}

export function envValue({ env = [] }: Container, wanted: string): string | undefined {
  return env.find(({ name }) => name === wanted)?.value;
}

/** Whether a selector takes a pod with these labels; an empty one takes all. */
export function selects({ matchLabels = {}, matchExpressions = [] }: Selector, labels: Labels): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      if (operator !== "In") throw new Error(`the operator ${operator} is not used so far: write it here`);
      return values.includes(labels[key] ?? "");
    })
  );
}

/** Bytes of a quantity such as 8Gi. */
export function bytesOf(quantity: string): number {
  const [, number, unit] = /^(\d+)(Ki|Mi|Gi)$/.exec(quantity) ?? [];
  if (number === undefined || unit === undefined) throw new Error(`${quantity} is no quantity of bytes as these manifests write them`);
  return Number(number) * 1_024 ** (["Ki", "Mi", "Gi"].indexOf(unit) + 1);
}
