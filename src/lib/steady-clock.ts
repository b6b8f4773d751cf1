/**
 * Milliseconds that look like unix time and never go back: the wall clock at the start of the process, counted on by the monotonic one. For
 * whatever this process times by itself; an NTP step or a suspended host changes nothing here.
 */
export function steadyNow(): number {
  return performance.timeOrigin + performance.now();
}
