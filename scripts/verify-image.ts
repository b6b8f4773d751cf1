/**
 * `scripts/verify image`: carries out Dockerfile.cuda with roots of Debian in place of the base images and with the real apt, npm and pip,
 * then runs what came of it as a container would: a worker and a gateway from each target's files, read-only, as their own user, on a real
 * Redis, one job through them, health, and an end by SIGTERM. Needs root and the network. The CUDA
 * libraries of the real base are absent. Arguments are targets; default: both.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readContext } from "../test/support/image/build-context.ts";
import { Container } from "../test/support/image/container.ts";
import { parseDockerfile } from "../test/support/image/dockerfile.ts";
import { checkImage } from "../test/support/image/image-checks.ts";
import { Layers } from "../test/support/image/layers.ts";
import { inOwnNamespaces } from "../test/support/image/own-namespaces.ts";
import { PrivateNetwork } from "../test/support/image/private-network.ts";
import { Replay, type Image } from "../test/support/image/replay.ts";
import { debianBases } from "../test/support/image/stand-ins.ts";

const ROOT = join(import.meta.dirname, "..");
const FILE = "Dockerfile.cuda";
const MODEL = "tiny-flux-schnell";
/** Without CUDA it says where it looked. */
const LOAD_CUDA = `
require("onnxruntime-node").InferenceSession.create("/app/models/tiny-kokoro/onnx/model.onnx", { executionProviders: ["cuda"] })
  .then(() => console.log("loaded"), (error) => console.log(error.message));
`;

await inOwnNamespaces(async (dir) => {
  const layers = await Layers.open(dir);
  const bases = await debianBases(layers, join(ROOT, ".cache", "image-roots"));
  const context = await readContext(ROOT, FILE);
  const dockerfile = parseDockerfile(FILE, await readFile(join(ROOT, FILE), "utf8"));
  const replay = new Replay({ dockerfile, context, layers, ...bases });
  const wanted = process.argv.slice(2);
  for (const target of wanted.length > 0 ? wanted : ["cpu", "cuda"]) {
    const image = await replay.image(target === "cuda" ? undefined : target);
    say(`${target}: built; megabytes: ${JSON.stringify(await checkImage(layers, bases, image, target))}`);
    say(`${target}: labels ${JSON.stringify(image.labels)}`);
    await serve(layers, image, join(dir, `run-${target}`));
    say(`${target}: a job went through worker and gateway, both were healthy and ended with 0`);
    if (target === "cuda") {
      await refuseWithoutCuda(layers, image, join(dir, "run-refuse"));
      say("cuda: without a card the worker ends with 3; the provider in /opt/ort is the one that onnxruntime takes");
    }
  }
});

async function serve(layers: Layers, image: Image, dir: string): Promise<void> {
  await using network = await PrivateNetwork.withRedis(join(dir, "redis"));
  const volumes = [[join(dir, "store"), "/store"]] as const;
  // Two containers in one network, so one of the two admin ports must be another.
  const shared = {
    REDIS_URL: "redis://127.0.0.1:6379",
    DRYAPI_STORE: "file:///store",
    DRYAPI_DEVICE: "cpu",
    DRYAPI_TEST_MODELS: "1",
    DRYAPI_MODELS: MODEL,
  };
  const gateway = {
    image,
    network,
    volumes,
    dir: join(dir, "gateway"),
    env: { ...shared, DRYAPI_ADMIN_PORT: "9465", DRYAPI_PUBLIC_URL: "http://127.0.0.1:8080" },
  };
  const worker = { image, network, volumes, dir: join(dir, "worker"), env: shared };
  await Container.use(layers, gateway, (theGateway) =>
    Container.use(layers, worker, async (theWorker) => {
      await expectFailure("writing to the image", theWorker.exec(["sh", "-c", "echo > /app/new"]));
      await expectFailure("the health of a worker that does not run", theWorker.health());
      const api = await theGateway.start(["gateway"]);
      await api.says('"gateway ready"');
      const daemon = await theWorker.start([]);
      await daemon.says('"worker ready"');
      await theGateway.health();
      await theWorker.health();
      await expectFailure("the health at a port where nobody listens", theWorker.health({ DRYAPI_ADMIN_PORT: "9" }));
      const doctor = await theWorker.exec(["dryapi", "doctor"], { DRYAPI_ADMIN_PORT: "9466" });
      say(doctor.trim());
      const { key } = JSON.parse(await theGateway.exec(["dryapi", "clients", "add", "proof", "--json"])) as { readonly key: string };
      await oneJob(theWorker, key);
      for (const [name, service] of [
        ["worker", daemon],
        ["gateway", api],
      ] as const) {
        const code = await service.stop();
        if (code !== 0) throw new Error(`${name}: SIGTERM ended it with ${code}: ${service.said.slice(-3_000)}`);
      }
    }),
  );
}

async function oneJob(client: Container, key: string): Promise<void> {
  const request = ["dryapi", "submit", "txt2img", `model=${MODEL}`, "prompt=a lighthouse", "seed=7", "--json", "--out", "/tmp/results"];
  const said = await client.exec(request, { DRYAPI_URL: "http://127.0.0.1:8080", DRYAPI_API_KEY: key });
  const report = JSON.parse(said.slice(said.indexOf("{"), said.lastIndexOf("}") + 1)) as {
    readonly status: string;
    readonly files: readonly { readonly path: string }[];
  };
  const [file] = report.files;
  if (report.status !== "done" || file === undefined) throw new Error(`the job ended as ${said}`);
  const kind = await client.exec(["node", "-p", `require("fs").readFileSync(${JSON.stringify(file.path)}).subarray(1, 4).toString()`]);
  if (kind.trim() !== "PNG") throw new Error(`${file.path} is no PNG: ${kind}`);
}

/** The stand-in of the CUDA base has no CUDA and no card: the worker must say so, and never serve on the CPU instead. */
async function refuseWithoutCuda(layers: Layers, image: Image, dir: string): Promise<void> {
  await using network = await PrivateNetwork.withRedis(join(dir, "redis"));
  const env = { REDIS_URL: "redis://127.0.0.1:6379", DRYAPI_STORE: "file:///store" };
  const options = { image, network, env, volumes: [[join(dir, "store"), "/store"]] as const, dir: join(dir, "worker") };
  await Container.use(layers, options, async (container) => {
    const worker = await container.start([]);
    const code = await worker.exited();
    if (code !== 3 || !worker.said.includes("device cuda was asked for"))
      throw new Error(`a worker without CUDA ended with ${code}: ${worker.said.slice(-3_000)}`);
    // As a runner does it: onnxruntime's own words show that it takes the runtime of /opt/ort (a link) and the provider beside it.
    const said = await container.exec(["node", "-e", LOAD_CUDA], { LD_LIBRARY_PATH: "/opt/ort" });
    if (!/Failed to load library \/opt\/ort\/libonnxruntime_providers_cuda\.so with error: libcu\w+\.so\.13/.test(said))
      throw new Error(`the provider of /opt/ort was not tried: ${said}`);
  });
}

async function expectFailure(what: string, work: Promise<unknown>): Promise<void> {
  const failed = await work.then(
    () => false,
    () => true,
  );
  if (!failed) throw new Error(`${what} should have failed`);
}

function say(text: string): void {
  process.stdout.write(`verify-image: ${text}\n`);
}
