import { join } from "node:path";
import { memoryNeeds } from "../../core/memory-plan.ts";
import { graphBytes } from "../../lib/graph-bytes.ts";
import type { JobOutput } from "../../protocol/ipc.ts";
import type { LoadContext } from "../pipeline.ts";
import type { Graph } from "./graph-edge.ts";
import { ParkableSession } from "./parkable-session.ts";
import { requireFit, StagedGraphs, type StagingMs, type StagingPlan } from "./staged-graphs.ts";

/** Where a graph lies and what its tensors are called. */
export interface GraphFile {
  /** Absolute. */
  readonly path: string;
  readonly names: Graph["names"];
}

/** The open graphs of a model. */
export interface OpenGraphs {
  /** Milliseconds inside native runs so far, all graphs together. */
  readonly sessionMs: () => number;
  /** Milliseconds that opening and releasing graphs between stages has cost since the load. */
  readonly stagingMs: () => StagingMs;
  /** To be awaited before the graphs of a stage are bound or run; `announce` is told of each that has to be opened again. */
  readonly enter: (stage: string, announce: (stage: string) => void) => Promise<void>;
  readonly release: () => Promise<void>;
}

/** Milliseconds of a model's graphs, as JobOutput has them. */
export type SpentMs = Pick<JobOutput, "sessionMs" | "wakeMs" | "parkMs">;

/** Since the load. */
export function spentMs(graphs: Pick<OpenGraphs, "sessionMs" | "stagingMs">): Required<SpentMs> {
  return { sessionMs: graphs.sessionMs(), ...graphs.stagingMs() };
}

/** Since then; without those of staging where there was none. */
export function spentSince(graphs: Pick<OpenGraphs, "sessionMs" | "stagingMs">, before: Required<SpentMs>): SpentMs {
  const now = spentMs(graphs);
  const [wakeMs, parkMs] = [now.wakeMs - before.wakeMs, now.parkMs - before.parkMs];
  return { sessionMs: now.sessionMs - before.sessionMs, ...((wakeMs > 0 || parkMs > 0) && { wakeMs, parkMs }) };
}

/**
 * Opens graphs one by one, in the order in which `build` asks for them (small ones first: what is wrong with a folder shows before the long
 * load), and makes a model of them. When `build` fails, those that are open are released. With a budget (LoadContext) graphs are released
 * again where the next one needs their room.
 * @throws AppError DOES_NOT_FIT for a budget that no single stage keeps within
 */
export async function withGraphs<Part extends string, Model>(
  context: LoadContext,
  files: ReadonlyMap<Part, GraphFile>,
  build: (open: (part: Part) => Promise<Graph>, graphs: OpenGraphs) => Promise<Model>,
): Promise<Model> {
  const staged = new StagedGraphs(await planStages(context, files));
  const open = async (part: Part): Promise<Graph> => {
    const file = files.get(part);
    if (file === undefined) throw new RangeError(`no file of part ${part} is known: this is a bug`);
    context.stage(`load:${part}`);
    const session = await staged.open(part, () => ParkableSession.open(file.path, () => context.backend.open(file.path)));
    return { part, session, names: file.names };
  };
  const release = async (): Promise<void> => {
    for (const session of staged.sessions) await session.release();
  };
  try {
    const graphs: OpenGraphs = {
      sessionMs: () => staged.sessions.reduce((sum, { runMs }) => sum + runMs, 0),
      stagingMs: () => staged.stagingMs,
      enter: (stage, announce) => staged.enter(stage, announce),
      release,
    };
    return await build(open, graphs);
  } catch (thrown) {
    await release();
    throw thrown;
  }
}

/** Null: all graphs stay open. @throws AppError DOES_NOT_FIT */
async function planStages(
  { manifest, modelDir, device, budgetBytes }: LoadContext,
  files: ReadonlyMap<string, GraphFile>,
): Promise<StagingPlan | null> {
  if (budgetBytes === null) return null;
  const sizes = new Map<string, number | null>();
  for (const [part, { path }] of files) {
    const external = manifest.parts[part]?.externalData ?? [];
    sizes.set(
      part,
      await graphBytes(
        path,
        external.map(({ file }) => join(modelDir, file)),
      ),
    );
  }
  const needs = memoryNeeds(manifest, device.kind, (part) => sizes.get(part) ?? null);
  if (needs === null) return null;
  const plan = { needs, budgetBytes };
  requireFit(manifest.slug, plan);
  return plan;
}
