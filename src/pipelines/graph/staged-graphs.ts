import { describeNeeds, gib, largestStage, partsToPark, type MemoryNeeds } from "../../core/memory-plan.ts";
import { AppError } from "../../protocol/error.ts";
import type { ParkableSession } from "./parkable-session.ts";

/** Milliseconds that staging has cost so far. */
export interface StagingMs {
  /** Opening graphs again. */
  readonly wakeMs: number;
  /** Releasing them. */
  readonly parkMs: number;
}

/** What a model may hold on its device at a time, and what its parts and stages take of it. */
export interface StagingPlan {
  readonly needs: MemoryNeeds;
  readonly budgetBytes: number;
}

/** @throws AppError DOES_NOT_FIT with the numbers when not even one stage at a time keeps within the budget */
export function requireFit(slug: string, { needs, budgetBytes }: StagingPlan): void {
  const { stage, bytes } = largestStage(needs);
  if (bytes <= budgetBytes) return;
  throw new AppError(
    "DOES_NOT_FIT",
    `model ${slug}: stage ${stage.stage} needs ${gib(bytes)}, the budget is ${gib(budgetBytes)}. Stages: ${describeNeeds(needs)}. ` +
      `Raise DRYAPI_DEVICE_BUDGET, take a larger device, or a smaller export of part ${largestPart(needs, stage.parts)}`,
  );
}

function largestPart({ partBytes }: MemoryNeeds, parts: readonly string[]): string {
  return parts.toSorted((a, b) => (partBytes[b] ?? 0) - (partBytes[a] ?? 0))[0] ?? "";
}

/** The graphs of a model, of which only those that fit are open at a time. Without a plan all of them stay open. */
export class StagedGraphs {
  readonly #plan: StagingPlan | null;
  readonly #sessions = new Map<string, ParkableSession>();
  #wakeMs = 0;
  #parkMs = 0;

  constructor(plan: StagingPlan | null) {
    this.#plan = plan;
  }

  get sessions(): readonly ParkableSession[] {
    return [...this.#sessions.values()];
  }

  get stagingMs(): StagingMs {
    return { wakeMs: this.#wakeMs, parkMs: this.#parkMs };
  }

  /** Opens a part for the first time; what does not fit beside it is parked before. */
  async open(part: string, open: () => Promise<ParkableSession>): Promise<ParkableSession> {
    const stage = this.#plan?.needs.stages.find(({ parts }) => parts.includes(part));
    if (stage !== undefined) await this.#makeRoom(stage.stage);
    const session = await open();
    this.#sessions.set(part, session);
    return session;
  }

  /**
   * Makes the parts of a stage ready to run. `announce` is told `load:<part>` before each part that is opened again.
   * @throws AppError as ParkableSession.wake; what is awake by then stays
   */
  async enter(stage: string, announce: (stage: string) => void): Promise<void> {
    const parts = this.#plan?.needs.stages.find((each) => each.stage === stage)?.parts ?? [];
    // Also for a stage whose parts are awake: its runs may take more than those of the stage before it.
    await this.#makeRoom(stage);
    for (const part of parts.filter((name) => this.#sessions.get(name)?.awake === false)) {
      announce(`load:${part}`);
      const startedAt = performance.now();
      try {
        await this.#sessions.get(part)?.wake();
      } finally {
        this.#wakeMs += performance.now() - startedAt;
      }
    }
  }

  async #makeRoom(stage: string): Promise<void> {
    if (this.#plan === null) return;
    const awake = new Set([...this.#sessions].filter(([, session]) => session.awake).map(([part]) => part));
    const parts = partsToPark({ ...this.#plan, stage, awake });
    if (parts.length === 0) return;
    const startedAt = performance.now();
    for (const part of parts) await this.#sessions.get(part)?.park();
    this.#parkMs += performance.now() - startedAt;
  }
}
