import { Agent, request } from "node:http";
import { addClient, startGateway, type GatewayProcess } from "../../test/support/gateway.ts";
import { openPusher, type PusherClient, type StatusUpdate } from "../../test/support/pusher-client.ts";
import { startSystem, type TestSystem, type WorkerProcess } from "../../test/support/system.ts";
import { BUILT_CLI } from "./built-cli.ts";

/** What the job itself takes: one step of the fake family. */
export const JOB_MS = 5;

const BODY = JSON.stringify({ model: "fake", prompt: "a lighthouse at dusk", width: 64, height: 64, steps: 1, step_ms: JOB_MS });

/** One job, in milliseconds of performance.now() of this process, which starts with `performance.timeOrigin`. */
export interface TimedJob {
  readonly submittedAt: number;
  readonly answeredAt: number;
  readonly doneAt: number;
}

/** A gateway, a worker and a client with a pusher-js socket, all real, on a Redis of their own. */
export class LatencyRig implements AsyncDisposable {
  readonly #system: TestSystem;
  readonly #gateway: GatewayProcess;
  readonly #worker: WorkerProcess;
  readonly #key: string;
  readonly #socket: PusherClient;
  readonly #agent = new Agent({ keepAlive: true });
  /** By request id: the end may come before the answer to its submit has been read. */
  readonly #doneAt = new Map<string, number>();
  #wake: () => void = () => undefined;

  constructor(parts: {
    readonly system: TestSystem;
    readonly gateway: GatewayProcess;
    readonly worker: WorkerProcess;
    readonly key: string;
  }) {
    this.#system = parts.system;
    this.#gateway = parts.gateway;
    this.#worker = parts.worker;
    this.#key = parts.key;
    this.#socket = openPusher({ url: parts.gateway.url, key: parts.key });
  }

  async subscribe(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const channel = this.#socket.subscribe("private-client.tester");
    channel.bind("pusher:subscription_succeeded", () => resolve());
    channel.bind("request.status.updated", ({ request_id: id, status }: StatusUpdate) => {
      if (status !== "done") return;
      this.#doneAt.set(id, performance.now());
      this.#wake();
    });
    await promise;
  }

  async job(): Promise<TimedJob> {
    const submittedAt = performance.now();
    const id = await this.#submit();
    const answeredAt = performance.now();
    for (let doneAt = this.#doneAt.get(id); ; doneAt = this.#doneAt.get(id)) {
      if (doneAt !== undefined) return { submittedAt, answeredAt, doneAt };
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Ends the processes in order, so that they say their last words. */
  async stop(): Promise<void> {
    this.#socket.disconnect();
    await this.#worker.stop();
    await this.#gateway.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.disconnect();
    this.#agent.destroy();
    await this.#gateway[Symbol.asyncDispose]();
    await this.#system[Symbol.asyncDispose]();
  }

  #submit(): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const headers = { Authorization: `Bearer ${this.#key}`, "Content-Type": "application/json" };
    const sent = request(`${this.#gateway.url}/api/v1/client/txt2img`, { method: "POST", agent: this.#agent, headers }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode !== 200) reject(new Error(`bench: the submit was answered ${response.statusCode}: ${body}`));
        else resolve((JSON.parse(body) as { data: { request_id: string } }).data.request_id);
      });
    });
    sent.on("error", reject);
    sent.end(BODY);
    return promise;
  }
}

/** `env`: of gateway and worker. */
export async function startLatencyRig(env: Readonly<Record<string, string>> = {}): Promise<LatencyRig> {
  const system = await startSystem({ DRYAPI_MODELS: "fake", ...env }, BUILT_CLI);
  // Limits are counted, as on any host, and never reached.
  const gateway = await startGateway(system, { DRYAPI_RATE_PER_MINUTE: "1000000", DRYAPI_RATE_PER_DAY: "1000000000" }, BUILT_CLI);
  const worker = await system.startWorker();
  const rig = new LatencyRig({ system, gateway, worker, key: await addClient(system) });
  await rig.subscribe();
  return rig;
}
