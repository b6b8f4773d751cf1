/** As Promise.all, but when it rejects nothing of the work is under way any more: what the work made can be cleaned up. */
export async function allDone(work: readonly Promise<unknown>[]): Promise<void> {
  await Promise.allSettled(work);
  await Promise.all(work);
}
