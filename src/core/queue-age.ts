/** The job that would be claimed next. */
export interface QueueHead {
  readonly id: string;
  /** By its submitter's clock, which may be hours off; null when unknown. */
  readonly addedAt: number | null;
}

/** The head as this host knows it. All times but the head's own are of the host's clock. */
export interface SeenHead extends QueueHead {
  /** Since when it waits. */
  readonly since: number;
  /** Since when the queue has not been seen empty. */
  readonly notEmptySince: number;
}

/**
 * Since when the head of a queue waits, by this host's clock alone. The first head that is seen counts from then. Each next one counts
 * from as much later (or earlier) than the one before as their submits lie apart, so that a skew that both have drops out; never from
 * before the queue was seen filled, nor from later than now. Submitters with different clocks are wrong by at most that span.
 */
export function seeHead(before: SeenHead | null, head: QueueHead | null, at: number): SeenHead | null {
  if (head === null) return null;
  if (before === null) return { ...head, since: at, notEmptySince: at };
  if (before.id === head.id) return before;
  const { notEmptySince } = before;
  const apartMs = head.addedAt === null || before.addedAt === null ? 0 : head.addedAt - before.addedAt;
  return { ...head, notEmptySince, since: Math.min(at, Math.max(notEmptySince, before.since + apartMs)) };
}
