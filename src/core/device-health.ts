export interface HealthPolicy {
  /** Crashes older than this no longer count. */
  readonly windowMs: number;
  /** Different jobs that must have crashed on the device before it is taken for the cause. */
  readonly crashedJobs: number;
  /** First quarantine; doubles with each further one that no success lies between. */
  readonly quarantineMs: number;
  readonly quarantineMaxMs: number;
}

export const DEFAULT_HEALTH: HealthPolicy = Object.freeze({
  windowMs: 600_000,
  crashedJobs: 3,
  quarantineMs: 30_000,
  quarantineMaxMs: 1_800_000,
});

/**
 * What is remembered of one device. A poison job crashes again and again but is one job; a black-hole host crashes different jobs:
 * so different jobs are counted, and a success of any job on the device clears it.
 */
export interface DeviceHealth {
  /** The last crash of each job. */
  readonly crashes: readonly { readonly job: string; readonly at: number }[];
  /** Quarantines since the last success. */
  readonly quarantines: number;
}

/**
 * A new device, and what each device becomes again when a job has ended well on it. A passed probe alone is not enough: a black hole
 * passes probes.
 */
export const HEALTHY: DeviceHealth = Object.freeze({ crashes: [], quarantines: 0 });

export interface HealthVerdict {
  readonly health: DeviceHealth;
  /** The device, not the job, is to blame. */
  readonly blamed: boolean;
  /** End of the quarantine that begins now, by the clock of the crashes; null = none. */
  readonly quarantineUntil: number | null;
}

/**
 * A job crashed its runner while it ran alone. A device that comes out of a quarantine is on probation: the next crash, of any job,
 * sends it back for twice as long.
 */
export function recordCrash(
  health: DeviceHealth,
  crash: { readonly job: string; readonly at: number },
  policy: HealthPolicy = DEFAULT_HEALTH,
): HealthVerdict {
  const recent = health.crashes.filter(({ job, at }) => job !== crash.job && crash.at - at < policy.windowMs);
  const crashes = [...recent, { job: crash.job, at: crash.at }];
  const onProbation = health.quarantines > 0;
  if (!onProbation && crashes.length < policy.crashedJobs) return { health: { ...health, crashes }, blamed: false, quarantineUntil: null };
  return quarantine(health, crash.at, policy);
}

/** The device did not answer its probe or a ping: nobody's job is to blame. */
export function recordProbeFailure(health: DeviceHealth, at: number, policy: HealthPolicy = DEFAULT_HEALTH): HealthVerdict {
  return quarantine(health, at, policy);
}

function quarantine(health: DeviceHealth, at: number, policy: HealthPolicy): HealthVerdict {
  const lengthMs = Math.min(policy.quarantineMaxMs, policy.quarantineMs * 2 ** Math.min(health.quarantines, 30));
  return { health: { crashes: [], quarantines: health.quarantines + 1 }, blamed: true, quarantineUntil: at + lengthMs };
}
