import type { Session } from "../backend.ts";
import type { LoadContext } from "../pipeline.ts";
import type { Graph } from "./graph-edge.ts";

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
  readonly release: () => Promise<void>;
}

/**
 * Opens graphs one by one, in the order in which `build` asks for them (small ones first: what is wrong with a folder shows before the long
 * load), and makes a model of them. When `build` fails, those that are open are released.
 */
export async function withGraphs<Part extends string, Model>(
  context: LoadContext,
  files: ReadonlyMap<Part, GraphFile>,
  build: (open: (part: Part) => Promise<Graph>, graphs: OpenGraphs) => Promise<Model>,
): Promise<Model> {
  const sessions: Session[] = [];
  const open = async (part: Part): Promise<Graph> => {
    const file = files.get(part);
    if (file === undefined) throw new RangeError(`no file of part ${part} is known: this is a bug`);
    context.stage(`load:${part}`);
    const session = await context.backend.open(file.path);
    sessions.push(session);
    return { part, session, names: file.names };
  };
  const release = async (): Promise<void> => {
    for (const session of sessions) await session.release();
  };
  try {
    return await build(open, { sessionMs: () => sessions.reduce((sum, { runMs }) => sum + runMs, 0), release });
  } catch (thrown) {
    await release();
    throw thrown;
  }
}
