import type { Sleep } from "../../lib/backoff.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import { asAppError } from "../../protocol/error.ts";
import type { HealthCheck } from "../../telemetry/admin-server.ts";
import { quarantineText, type DeviceWatch } from "./device-watch.ts";

/** A device on which nothing of ours ran or answered for so long is proved anew. */
const IDLE_PROOF_MS = 300_000;
/** A device is looked at so often while runners keep a proof that is due from it: two of ours on one GPU may be one too many. */
const USED_RECHECK_MS = 5_000;
/** After so many measurements in a row that the driver did not answer, a device is proved at once: it may have fallen off the bus. */
const UNMEASURED_LIMIT = 3;
/** Of a failure's words in a health report. */
const MAX_DETAIL_CHARS = 400;

export interface DeviceCareOptions {
  readonly devices: readonly { readonly id: string; readonly uuid: string | null }[];
  /** First proofs that are under way, by device. A device without one counts as proved. */
  readonly proofs: ReadonlyMap<string, Promise<unknown>>;
  /** Rejects with what is wrong. */
  readonly prove: (device: string, signal: AbortSignal) => Promise<unknown>;
  readonly watch: Pick<DeviceWatch, "noteOf" | "probeFailed" | "released">;
  /** Whether a runner is up or starting on it. One that idles is pinged, one that works has its deadlines: they prove the device. */
  readonly isUsed: (device: string) => boolean;
  readonly onProved: (device: string) => void;
  readonly sleep: Sleep;
}

/** Proves each device before it gets work: at the start, after each quarantine, and again when nothing has run on it for long. */
export class DeviceCare {
  readonly #options: DeviceCareOptions;
  readonly #inService: Set<string>;
  readonly #provenAt = new Map<string, number>();
  readonly #unmeasured = new Map<string, number>();
  /** Ends the present wait of a device's loop. */
  readonly #wake = new Map<string, AbortController>();

  constructor(options: DeviceCareOptions) {
    this.#options = options;
    this.#inService = new Set(options.devices.filter(({ id }) => !options.proofs.has(id)).map(({ id }) => id));
  }

  isInService(device: string): boolean {
    return this.#inService.has(device);
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#options.devices.map(({ id }) => this.#careFor(id, signal)));
  }

  /** The watch took it out of service: it is proved when its time is over. */
  quarantined(device: string): void {
    this.#inService.delete(device);
    this.#wake.get(device)?.abort();
  }

  /** Whether the driver told how much of the device is in use. */
  measured(device: string, isTold: boolean): void {
    // Only GPUs of NVIDIA's driver are told of at all.
    if (this.#options.devices.find(({ id }) => id === device)?.uuid === null) return;
    const count = isTold ? 0 : (this.#unmeasured.get(device) ?? 0) + 1;
    this.#unmeasured.set(device, count);
    if (count !== UNMEASURED_LIMIT) return;
    this.#provenAt.delete(device);
    this.#wake.get(device)?.abort();
  }

  /** For readiness: fails while no device is in service, and names each that is not, with the reason. */
  report(): HealthCheck {
    const { devices, watch } = this.#options;
    const said = devices.map(({ id }) => {
      if (this.#inService.has(id)) return id;
      const note = watch.noteOf(id);
      if (note === undefined) return `${id} is not proved yet`;
      const until = new Date(note.until).toISOString();
      return `${id} is out of service, proved anew at ${until}: ${quarantineText(note).slice(0, MAX_DETAIL_CHARS)}`;
    });
    return { ok: this.#inService.size > 0, detail: said.join("; ") };
  }

  async #careFor(device: string, signal: AbortSignal): Promise<void> {
    const { promise: over, resolve } = Promise.withResolvers<null>();
    signal.addEventListener("abort", () => resolve(null), { once: true });
    let proof = this.#options.proofs.get(device) ?? Promise.resolve();
    while (!signal.aborted) {
      const outcome = proof.then(
        () => null,
        (thrown: unknown) => asAppError(thrown),
      );
      const failure = await Promise.race([outcome, over]);
      if (signal.aborted) return;
      this.#take(device, failure);
      await this.#untilDue(device, signal);
      if (!signal.aborted) proof = this.#options.prove(device, signal);
    }
  }

  #take(device: string, failure: ReturnType<typeof asAppError> | null): void {
    const { watch, onProved } = this.#options;
    // Jobs may have had it taken out of service while the proof ran: one that passes does not outweigh them.
    if ((watch.noteOf(device)?.until ?? 0) > steadyNow()) return;
    if (failure !== null) return watch.probeFailed(device, { kind: "proof" }, failure);
    this.#provenAt.set(device, steadyNow());
    watch.released(device);
    if (this.#inService.has(device)) return;
    this.#inService.add(device);
    onProved(device);
  }

  async #untilDue(device: string, signal: AbortSignal): Promise<void> {
    for (let leftMs = this.#leftMs(device); leftMs > 0 && !signal.aborted; leftMs = this.#leftMs(device)) {
      const wake = new AbortController();
      this.#wake.set(device, wake);
      await this.#options.sleep(leftMs, AbortSignal.any([signal, wake.signal])).catch(() => undefined);
    }
  }

  /** Until the next proof; 0 or less = now. */
  #leftMs(device: string): number {
    const now = steadyNow();
    const isUsed = this.#options.isUsed(device);
    if (isUsed && this.#inService.has(device)) this.#provenAt.set(device, now);
    const dueAt = this.#options.watch.noteOf(device)?.until ?? (this.#provenAt.get(device) ?? -Infinity) + IDLE_PROOF_MS;
    return isUsed ? Math.max(USED_RECHECK_MS, dueAt - now) : dueAt - now;
  }
}
