import type { JobEventDraft } from "../../src/protocol/event.ts";
import type { EmitAnswer, Emitter, EmitTarget } from "../../src/state/state-types.ts";
import type { FakeQueues } from "./fake-queues.ts";

/** Records events; fenced by the lock and the claim number like the real one. */
export class FakeEmitter implements Emitter {
  readonly told: (JobEventDraft & { readonly client: string })[] = [];
  readonly #queues: FakeQueues;
  /** Called before each event; may throw. */
  onEmit: (draft: JobEventDraft) => void = () => undefined;

  constructor(queues: FakeQueues) {
    this.#queues = queues;
  }

  /** Types of a job's events, in order. */
  of(id: string): readonly string[] {
    return this.told.filter((draft) => draft.id === id).map(({ type }) => type);
  }

  async emit({ id, token, client }: EmitTarget, draft: JobEventDraft): Promise<EmitAnswer> {
    this.onEmit(draft);
    const lockHeld = this.#queues.entry(id).lock === token;
    if (lockHeld) this.told.push({ ...draft, client });
    return { lockHeld, cancelled: false };
  }

  async emitEnd({ client }: Omit<EmitTarget, "token">, draft: JobEventDraft): Promise<boolean> {
    this.onEmit(draft);
    this.told.push({ ...draft, client });
    return true;
  }
}
