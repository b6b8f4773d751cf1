import { spawn, type ChildProcess } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { Agent, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { freePort } from "./free-port.ts";

/** Programs that were built elsewhere may be named: a build takes its time. */
const PROGRAMS = process.env["CONTROL_PLANE"] ?? join(import.meta.dirname, "..", "..", ".cache", "control-plane");
const TOKEN = "of-this-run-alone";

export interface Answer<T> {
  readonly status: number;
  readonly body: T;
}

export interface ControlPlane extends AsyncDisposable {
  /** One request to the API server, again while it is overloaded. A PATCH is a strategic merge, except with an array: then it is a JSON patch. */
  call<T>(method: "GET" | "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<Answer<T>>;
}

/**
 * A real API server on etcd, with the controllers of DaemonSets, Deployments and disruption budgets and the scheduler, on loopback. There are no
 * kubelets: see fake-kubelets.ts. scripts/build-control-plane.sh makes the programs.
 */
export async function startControlPlane(): Promise<ControlPlane> {
  const folder = await mkdtemp(join(tmpdir(), "dryapi-control-plane-"));
  const [client, peer, api] = [await freePort(), await freePort(), await freePort()];
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  await writeFile(join(folder, "key"), privateKey.export({ type: "pkcs1", format: "pem" }));
  await writeFile(join(folder, "key.pub"), publicKey.export({ type: "spki", format: "pem" }));
  await writeFile(join(folder, "tokens"), `${TOKEN},admin,admin,system:masters\n`);
  const server = `https://127.0.0.1:${api}`;
  const kubeconfig = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "it", cluster: { server, "insecure-skip-tls-verify": true } }],
    users: [{ name: "it", user: { token: TOKEN } }],
    contexts: [{ name: "it", context: { cluster: "it", user: "it" } }],
    "current-context": "it",
  };
  await writeFile(join(folder, "kubeconfig"), JSON.stringify(kubeconfig));
  const children: ChildProcess[] = [];
  const start = (program: string, ...args: readonly string[]): void => {
    const child = spawn(join(PROGRAMS, program), args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    const log = createWriteStream(join(folder, `${program}.log`));
    child.stdout.pipe(log);
    child.stderr.pipe(log);
    children.push(child);
  };
  const urls = (port: number): string => `http://127.0.0.1:${port}`;
  start(
    "etcd",
    "--data-dir=etcd",
    "--unsafe-no-fsync",
    `--listen-client-urls=${urls(client)}`,
    `--advertise-client-urls=${urls(client)}`,
    `--listen-peer-urls=${urls(peer)}`,
  );
  start(
    "kube-apiserver",
    `--etcd-servers=${urls(client)}`,
    "--bind-address=127.0.0.1",
    `--secure-port=${api}`,
    "--cert-dir=certs",
    "--service-account-key-file=key.pub",
    "--service-account-signing-key-file=key",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--token-auth-file=tokens",
    "--authorization-mode=AlwaysAllow",
    "--service-cluster-ip-range=10.96.0.0/16",
    // Its controller, which would make the accounts' tokens, does not run.
    "--disable-admission-plugins=ServiceAccount",
  );
  const ports = ["--port=0", "--secure-port=0", "--leader-elect=false", "--kubeconfig=kubeconfig"];
  const agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
  const call = async <T>(method: string, path: string, body?: unknown): Promise<Answer<T>> => {
    for (;;) {
      const answer = await send<T>(agent, { method, url: server + path, body });
      // An API server that has too much to do: 5xx, or 429 in plain text. A 429 in JSON is a decision, such as on an eviction.
      if (answer.status < 429 || (answer.status === 429 && typeof answer.body !== "string")) return answer;
      await wait(500);
    }
  };
  try {
    const until = performance.now() + 120_000;
    while ((await send(agent, { method: "GET", url: `${server}/readyz`, body: undefined }).catch(() => null))?.status !== 200) {
      if (performance.now() > until) throw new Error(`the API server did not start; see ${folder}/kube-apiserver.log`);
      await wait(250);
    }
  } catch (thrown) {
    await end(children);
    throw thrown;
  }
  start(
    "kube-controller-manager",
    ...ports,
    "--controllers=daemonset,deployment,replicaset,disruption,garbagecollector",
    "--kube-api-qps=100",
    "--kube-api-burst=200",
  );
  start("kube-scheduler", ...ports);
  return {
    call,
    [Symbol.asyncDispose]: async () => {
      agent.destroy();
      await end(children);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function send<T>(
  agent: Agent,
  { method, url, body }: { readonly method: string; readonly url: string; readonly body: unknown },
): Promise<Answer<T>> {
  const patch = Array.isArray(body) ? "application/json-patch+json" : "application/strategic-merge-patch+json";
  const text = body === undefined ? "" : JSON.stringify(body);
  const headers = {
    authorization: `Bearer ${TOKEN}`,
    "content-type": method === "PATCH" ? patch : "application/json",
    // By itself Node frames no body of a DELETE.
    "content-length": Buffer.byteLength(text),
  };
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method, agent, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const answer = Buffer.concat(chunks).toString("utf8");
        const isJson = response.headers["content-type"]?.includes("json") === true;
        resolve({ status: response.statusCode ?? 0, body: (isJson ? JSON.parse(answer) : answer) as T });
      });
    });
    outgoing.on("error", reject);
    outgoing.end(text);
  });
}

/** The last one started ends first. */
async function end(children: readonly ChildProcess[]): Promise<void> {
  for (const child of children.toReversed()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }
}
