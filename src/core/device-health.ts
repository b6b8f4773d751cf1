export interface HealthPolicy {
  /** Different jobs that must have run into a fault of the device, without a success between them, before it is taken for the cause. */
  readonly faultedJobs: number;
  /** First quarantine; doubles with each further one that no success lies between. */
  readonly quarantineMs: number;
  readonly quarantineMaxMs: number;
}

export const DEFAULT_HEALTH: HealthPolicy = Object.freeze({ faultedJobs: 3, quarantineMs: 30_000, quarantineMaxMs: 1_800_000 });

/**
 * What is remembered of one device. A poison job brings runners down again and again but is one job; a bad device does it to different
 * jobs: so different jobs are counted, however far apart they come, and a success of any job on the device clears it.
 */
export interface DeviceHealth {
  /** Ids of jobs that ended in a device fault (a crash, a stage without a sign of life, an error of the driver). */
  readonly faulted: readonly string[];
  /** Quarantines since the last success. */
  readonly quarantines: number;
}

/**
 * A new device, and what each device becomes again when a job has ended well on it. A passed probe alone is not enough: a bad device may
 * pass probes.
 */
export const HEALTHY: DeviceHealth = Object.freeze({ faulted: [], quarantines: 0 });

export interface HealthVerdict {
  readonly health: DeviceHealth;
  /** The device, not the job, is to blame. */
  readonly blamed: boolean;
  /** End of the quarantine that begins now, in the caller's milliseconds; null = none. */
  readonly quarantineUntil: number | null;
}

/**
 * A job that ran alone ended in a device fault. A device that comes out of a quarantine is on probation: the next fault, of any job,
 * sends it back for twice as long.
 */
export function recordFault(
  health: DeviceHealth,
  fault: { readonly job: string; readonly at: number },
  policy: HealthPolicy = DEFAULT_HEALTH,
): HealthVerdict {
  const faulted = [...health.faulted.filter((job) => job !== fault.job), fault.job];
  const onProbation = health.quarantines > 0;
  if (!onProbation && faulted.length < policy.faultedJobs) return { health: { ...health, faulted }, blamed: false, quarantineUntil: null };
  return quarantine(health, fault.at, policy);
}

/** The device did not answer its probe or a ping: nobody's job is to blame. */
export function recordProbeFailure(health: DeviceHealth, at: number, policy: HealthPolicy = DEFAULT_HEALTH): HealthVerdict {
  return quarantine(health, at, policy);
}

function quarantine(health: DeviceHealth, at: number, policy: HealthPolicy): HealthVerdict {
  const lengthMs = Math.min(policy.quarantineMaxMs, policy.quarantineMs * 2 ** Math.min(health.quarantines, 30));
  return { health: { faulted: [], quarantines: health.quarantines + 1 }, blamed: true, quarantineUntil: at + lengthMs };
}
