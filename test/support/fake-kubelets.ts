import { setTimeout as wait } from "node:timers/promises";
import type { ControlPlane } from "./control-plane.ts";

interface Pod {
  readonly metadata: { readonly uid: string; readonly name: string; readonly deletionTimestamp?: string };
  readonly spec: { readonly nodeName?: string; readonly containers: readonly { readonly name: string; readonly image: string }[] };
}

export interface KubeletOptions {
  readonly namespace: string;
  /** From a pod's deletion to its end. */
  readonly drainMs: number;
  /** From a pod's place on a node to its readiness. */
  readonly startMs: number;
  /** Pods whose image ends so never become ready. */
  readonly brokenTag: string;
}

/** What the kubelets of all nodes would tell the API server: pods that were placed become ready, pods that were deleted are unready, then gone. */
export function startFakeKubelets(plane: ControlPlane, options: KubeletOptions): AsyncDisposable {
  const stop = new AbortController();
  const running = run(plane, options, stop.signal);
  // Nothing becomes ready after that: say why at once. The one who ends them gets it too.
  running.catch((thrown: unknown) => console.error("the fake kubelets ended:", thrown));
  return {
    [Symbol.asyncDispose]: () => {
      stop.abort();
      return running;
    },
  };
}

async function run(plane: ControlPlane, { namespace, drainMs, startMs, brokenTag }: KubeletOptions, signal: AbortSignal): Promise<void> {
  const pods = `/api/v1/namespaces/${namespace}/pods`;
  const since = new Map<string, number>();
  const ready = new Set<string>();
  const tell = async (name: string, status: "True" | "False", more: object): Promise<boolean> => {
    const lastTransitionTime = new Date().toISOString().replace(/\.\d+/, "");
    const conditions = ["Ready", "ContainersReady"].map((type) => ({ type, status, lastTransitionTime }));
    // Refused where somebody else wrote at the same moment: told again at the next look.
    return (await plane.call("PATCH", `${pods}/${name}/status`, { status: { conditions, ...more } })).status === 200;
  };
  while (!signal.aborted) {
    const { body } = await plane.call<{ readonly items: readonly Pod[] }>("GET", `${pods}?resourceVersion=0`);
    for (const { metadata, spec } of body.items) {
      if (spec.nodeName === undefined) continue;
      const { uid, name } = metadata;
      const dying = metadata.deletionTimestamp !== undefined;
      const state = dying ? `${uid} dying` : uid;
      const seen = since.get(state) ?? performance.now();
      since.set(state, seen);
      const after = performance.now() - seen;
      if (dying) {
        if (ready.has(uid) && (await tell(name, "False", {}))) ready.delete(uid);
        if (after >= drainMs) await plane.call("DELETE", `${pods}/${name}`, { gracePeriodSeconds: 0 });
        continue;
      }
      const starts = !ready.has(uid) && after >= startMs && !spec.containers.some(({ image }) => image.endsWith(brokenTag));
      if (starts && (await tell(name, "True", { phase: "Running" }))) ready.add(uid);
    }
    await wait(300, undefined, { signal }).catch(() => undefined);
  }
}
