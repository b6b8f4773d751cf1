import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { steadyNow } from "../lib/steady-clock.ts";
import { ownIdentity, type ProcessIdentity } from "../lib/process-identity.ts";
import type { NameHolder } from "../state/state-types.ts";
import type { Daemon } from "./daemon.ts";
import { UnusableModels } from "./unusable-models.ts";
import type { WorkerContext } from "./worker-context.ts";
import { described, WorkerName } from "./worker-name.ts";

const ANNOUNCE_EVERY_MS = 10_000;
/** An entry outlives three announcements that were lost. */
const ANNOUNCE_TTL_MS = 35_000;
/** How often a daemon that has lost its name to another asks for it. */
const ASK_EVERY_MS = 5_000;
/** Why claims are paused. */
const NAME = "name";

export type AnnouncedDaemon = Pick<Daemon, "served" | "draining" | "devices" | "pause" | "resume" | "isPaused">;

/**
 * Says in Redis that this worker lives and which models it serves; entries of workers that stop saying so expire. The entry is also what
 * holds the worker's name: a daemon that another has it from claims nothing until the name is free.
 */
export class Announcer {
  readonly #context: Pick<WorkerContext, "config" | "log" | "registry" | "models">;
  readonly #daemon: AnnouncedDaemon;
  readonly #own: ProcessIdentity;
  readonly #name: WorkerName;
  readonly #now: () => number;
  readonly #instance = randomUUID();
  readonly #since = Date.now();
  readonly unusable: UnusableModels;
  #said = "";
  #saidAt = Number.NEGATIVE_INFINITY;
  #lostTo: NameHolder | null = null;

  constructor(context: WorkerContext, daemon: AnnouncedDaemon, own: ProcessIdentity, now: () => number = steadyNow) {
    this.#context = context;
    this.#daemon = daemon;
    this.#own = own;
    this.#now = now;
    this.unusable = new UnusableModels(context);
    this.#name = new WorkerName({ name: context.config.workerName, own, announce: (replaces) => this.#write(replaces) });
  }

  /** For the start: nothing is claimed before the name is ours. @throws AppError CONFIG_INVALID when another daemon has it */
  async start(options: Parameters<WorkerName["take"]>[0]): Promise<void> {
    if (!(await this.#name.take(options))) this.#daemon.pause(NAME);
  }

  /** Announces the worker when something changed and before the last announcement expires. Called every second. @throws AppError REDIS_UNAVAILABLE */
  async check(): Promise<void> {
    const text = JSON.stringify([this.#daemon.served, this.unusable.list(), this.#daemon.draining]);
    const agoMs = this.#now() - this.#saidAt;
    if (this.#lostTo === null ? text === this.#said && agoMs < ANNOUNCE_EVERY_MS : agoMs < ASK_EVERY_MS) return;
    const holder = await this.#name.announce();
    this.#saidAt = this.#now();
    this.#said = text;
    this.#heard(holder);
  }

  /** At the end: others need not wait for what this one will not do. */
  async sayDraining(): Promise<void> {
    await this.#name.announce();
  }

  async withdraw(): Promise<void> {
    await this.#context.registry.withdraw(this.#context.config.workerName, this.#instance);
  }

  #heard(holder: NameHolder | null): void {
    const { log, config } = this.#context;
    const was = this.#lostTo;
    this.#lostTo = holder;
    if (holder === null) {
      if (was !== null) log.info({ name: config.workerName }, "the worker's name is free again");
      if (this.#daemon.isPaused(NAME)) this.#daemon.resume(NAME);
      return;
    }
    if (was?.instance !== holder.instance || was.host !== holder.host)
      log.error(
        { name: config.workerName, holder: described(holder) },
        "no more jobs are claimed: another daemon has taken this worker's name; give one of them another DRYAPI_WORKER_NAME, or stop it",
      );
    if (!this.#daemon.isPaused(NAME)) this.#daemon.pause(NAME);
  }

  async #write(replaces?: string): Promise<NameHolder | null> {
    const { config, registry } = this.#context;
    return registry.announce(
      {
        worker: config.workerName,
        host: hostname(),
        pid: process.pid,
        models: this.#daemon.served,
        unusable: this.unusable.list(),
        devices: this.#daemon.devices.map(({ id, kind, memoryBytes }) => ({ id, kind, memoryBytes })),
        draining: this.#daemon.draining,
        at: Date.now(),
        instance: this.#instance,
        process: this.#own,
        since: this.#since,
      },
      ANNOUNCE_TTL_MS,
      replaces,
    );
  }
}

export async function openAnnouncer(context: WorkerContext, daemon: AnnouncedDaemon): Promise<Announcer> {
  return new Announcer(context, daemon, await ownIdentity());
}
