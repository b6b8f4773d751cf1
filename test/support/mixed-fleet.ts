import assert from "node:assert/strict";
import { join } from "node:path";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "./gateway.ts";
import { startReceiver, type Receiver } from "./https-receiver.ts";
import { openPusher, subscribeUpdates, type PusherClient, type StatusUpdate } from "./pusher-client.ts";
import { startSystem, type TestSystem, type WorkerProcess } from "./system.ts";

export type Version = "old" | "new";

/** Entries of the two programs. */
export type Programs = Readonly<Record<Version, string>>;

export const VERSIONS: readonly Version[] = ["old", "new"];

/** A gateway with a client and its socket. */
export interface Side {
  readonly version: Version;
  readonly api: ApiClient;
  readonly gateway: GatewayProcess;
  readonly updates: readonly StatusUpdate[];
}

/** Programs of two versions on one Redis and one store, and one client that talks to all of them. */
export class MixedFleet implements AsyncDisposable {
  readonly system: TestSystem;
  readonly receiver: Receiver;
  readonly #programs: Programs;
  readonly #key: string;
  readonly #stack: AsyncDisposableStack;
  #names = 0;

  constructor(parts: {
    readonly system: TestSystem;
    readonly receiver: Receiver;
    readonly programs: Programs;
    readonly key: string;
    readonly stack: AsyncDisposableStack;
  }) {
    this.system = parts.system;
    this.receiver = parts.receiver;
    this.#programs = parts.programs;
    this.#key = parts.key;
    this.#stack = parts.stack;
  }

  async gateway(version: Version): Promise<Side> {
    const env = { NODE_EXTRA_CA_CERTS: this.receiver.caFile, DRYAPI_EGRESS_ALLOW: "127.0.0.0/8" };
    const gateway = this.#stack.use(await startGateway(this.system, env, this.#programs[version]));
    const socket = this.#stack.adopt<PusherClient>(openPusher({ url: gateway.url, key: this.#key }), (client) => client.disconnect());
    return { version, gateway, api: new ApiClient(gateway.url, this.#key), updates: await subscribeUpdates(socket) };
  }

  /** `name`: of a worker that was there before, whose place and folder it takes; else each has its own. */
  async worker(version: Version, name: string = this.#newName(version)): Promise<WorkerProcess & { readonly name: string }> {
    const env = { DRYAPI_WORKER_NAME: name, DRYAPI_STATE_DIR: join(this.system.dir, name) };
    return { ...(await this.system.startWorker(env, this.#programs[version])), name };
  }

  /** A request whose end is told by webhook. */
  async submit(side: Side, fields: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const body = {
      model: "fake",
      prompt: "a lighthouse",
      width: 64,
      height: 64,
      steps: 2,
      seed: 7,
      webhook_url: `${this.receiver.url}/told`,
    };
    return side.api.submit("txt2img", { ...body, ...fields });
  }

  /** Resolves once this request's run has begun. */
  async running(id: string): Promise<void> {
    await this.system.event((each) => each.id === id && each.type === "processing");
  }

  /**
   * Waits for the end of all, and holds every side to it: the same status and the same file from each gateway, one end on each socket, one
   * webhook of the end, one of the start at least, and one attempt in all.
   */
  async endedOnce(ids: readonly string[], sides: readonly Side[], claims: number = 1): Promise<void> {
    for (const id of ids) {
      const view = await this.system.ended("fake", id);
      assert.deepEqual(
        { state: view.state, attempts: view.attemptsMade, claim: view.claim },
        { state: "completed", attempts: 1, claim: claims },
        id,
      );
      const files = await Promise.all(sides.map(({ api }) => this.#file(api, id)));
      for (const file of files) assert.ok(file.equals(files[0] ?? Buffer.alloc(0)), `${id}: the gateways give different files`);
      for (const side of sides) await this.#toldOnce(id, side);
      await this.#deliveredOnce(id);
    }
  }

  #newName(version: Version): string {
    this.#names += 1;
    return `${version}-${this.#names}`;
  }

  async #file(api: ApiClient, id: string): Promise<Buffer> {
    const { status, result_url: url } = await api.status(id);
    assert.equal(status, "done", id);
    const response = await fetch(String(url));
    assert.equal(response.status, 200, String(url));
    return Buffer.from(await response.arrayBuffer());
  }

  async #toldOnce(id: string, { version, updates }: Side): Promise<void> {
    const ends = (): readonly StatusUpdate[] => updates.filter((update) => update.request_id === id && update.status === "done");
    await this.system.until(`the end of ${id} on the socket of the ${version} gateway`, () => (ends().length > 0 ? true : undefined));
    assert.equal(ends().filter(({ replayed }) => replayed !== true).length <= 1, true, JSON.stringify(ends()));
  }

  async #deliveredOnce(id: string): Promise<void> {
    interface Told {
      readonly event: string;
      readonly delivery_id: string;
      readonly data: { readonly job_request_id: string };
    }
    const told = (event: string): readonly Told[] =>
      this.receiver.received
        .map(({ body }) => JSON.parse(body) as Told)
        .filter((each) => each.event === event && each.data.job_request_id === id);
    for (const event of ["job.completed", "job.processing"]) {
      await this.system.until(
        `the webhook ${event} of ${id}`,
        () => (told(event).length > 0 ? true : undefined),
        () => this.receiver.received.slice(-5),
      );
    }
    assert.equal(new Set(told("job.completed").map(({ delivery_id: delivery }) => delivery)).size, 1, id);
    assert.equal(told("job.completed").length, 1, `${id}: its end was delivered ${told("job.completed").length} times`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    await this.receiver[Symbol.asyncDispose]();
    await this.system[Symbol.asyncDispose]();
  }
}

export async function startMixedFleet(programs: Programs): Promise<MixedFleet> {
  const system = await startSystem({ DRYAPI_MODELS: "fake,fake-b", DRYAPI_TEST_MODELS: "on", DRYAPI_SHUTDOWN_GRACE_MS: "0s" });
  const receiver = await startReceiver();
  return new MixedFleet({ system, receiver, programs, key: await addClient(system), stack: new AsyncDisposableStack() });
}
