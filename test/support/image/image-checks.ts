import { execFile } from "node:child_process";
import { access, lstat, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { mountSystem, runInside, type Layers } from "./layers.ts";
import type { Image } from "./replay.ts";
import type { Bases } from "./stand-ins.ts";

const run = promisify(execFile);

/** Megabytes (10^6) of parts of an image's /app and /opt. */
export interface ImageSizes {
  readonly [part: string]: number;
}

const PARTS = ["/app", "/app/node_modules", "/app/node_modules/onnxruntime-node", "/app/dist", "/app/models", "/opt/ort"];

/** Targets that passed, by their layers: equal ones need no second look. */
const checked = new Map<string, ImageSizes>();

/**
 * What every image of ours must be, whatever its base: its programs start as its user, nothing in it is for another platform or for the
 * compiler. A file that the Dockerfile forgot shows here at the latest.
 * @throws Error that says what is wrong
 */
export async function checkImage(layers: Layers, bases: Bases, image: Image, target: string): Promise<ImageSizes> {
  const key = `${target} ${image.layer.key}`;
  const known = checked.get(key);
  if (known !== undefined) return known;
  const sizes = await layers.read(image.layer, async (root) => {
    await checkFiles(root, image, target);
    return sizesOf(root);
  });
  // A layer of its own takes what the mounts need; the programs run as they do in the end.
  await layers.add(image.layer, `check ${JSON.stringify(image.cmd)}`, async (root) => {
    await mountSystem(root, bases.binds);
    const inside = { ...image, user: await userOf(root, image.user) };
    const { version } = JSON.parse(await readFile(join(root, "app/package.json"), "utf8")) as { readonly version: string };
    const said = (await runInside(root, inside, ["dryapi", "--version"])).trim();
    if (said !== version) throw new Error(`dryapi --version printed ${said}, package.json has ${version}`);
    const models = await runInside(root, inside, ["dryapi", "models", "list"]);
    if (!models.includes("Flux1schnell")) throw new Error(`dryapi models list does not know Flux1schnell: ${models}`);
    // What was pruned left the binaries whole.
    await runInside(root, inside, [
      "node",
      "-e",
      'require("onnxruntime-node").InferenceSession.create; require("koffi").load("/app/node_modules/onnxruntime-node/bin/napi-v6/linux/" + process.arch + "/libonnxruntime.so.1").func("OrtGetApiBase", "void *", [])(); require("sharp")({create:{width:1,height:1,channels:3,background:"red"}}).png().toBuffer()',
    ]);
  });
  checked.set(key, sizes);
  return sizes;
}

async function checkFiles(root: string, image: Image, target: string): Promise<void> {
  for (const path of [...image.entrypoint, ...image.cmd, ...image.healthcheck].filter((word) => word.startsWith("/")))
    await mustExist(root, path);
  for (const path of [
    "/usr/local/bin/node",
    "/app/LICENSE",
    "/app/scripts/dryapi.mjs",
    "/app/dist/gateway/console/assets",
    "/app/dist/gateway/docs/assets",
  ])
    await mustExist(root, path);
  const compilers = ["typescript", "@typescript", "tsc", "node-linux-*", "*.d.ts"].flatMap((name) => ["-o", "-name", name]).slice(1);
  const foreign = [...(await find(root, "app", compilers)), ...(await find(root, "app/dist", ["-name", "*.test.js"]))];
  if (foreign.length > 0) throw new Error(`is not needed to run: ${foreign.slice(0, 5).join(", ")}`);
  const binaries = await find(root, "app/node_modules/onnxruntime-node/bin", ["-type", "f"]);
  const other = binaries.filter((path) => !path.includes(`/linux/${process.arch}/`));
  if (other.length > 0 || !binaries.some((path) => path.endsWith("/libonnxruntime.so.1")))
    throw new Error(`onnxruntime-node/bin holds ${binaries.join(", ")}`);
  const koffi = await find(root, "app/node_modules/@koromix", ["-name", "*.node"]);
  if (koffi.length !== 1 || koffi[0]?.endsWith(`/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`) !== true)
    throw new Error(`@koromix holds ${koffi.join(", ") || "no koffi.node"}`);
  if (target === "cuda") {
    for (const name of ["libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so", "ORT_VERSION"])
      await mustExist(root, `/opt/ort/${name}`);
    await mustExist(root, await readlink(join(root, "opt/ort/libonnxruntime.so.1")));
  } else if (await lstat(join(root, "opt/ort")).catch(() => null)) throw new Error("has /opt/ort, which is for CUDA alone");
}

async function mustExist(root: string, path: string): Promise<void> {
  await access(join(root, path)).catch(() => {
    throw new Error(`the image has no ${path}`);
  });
}

async function find(root: string, under: string, tests: readonly string[]): Promise<string[]> {
  const { stdout } = await run("find", [under, ...tests], { cwd: root, maxBuffer: 64 * 1024 * 1024 });
  return stdout.split("\n").filter((line) => line !== "");
}

async function sizesOf(root: string): Promise<ImageSizes> {
  const sizes: Record<string, number> = {};
  for (const part of PARTS) {
    const { stdout } = await run("du", ["-sB1", join(root, part)]).catch(() => ({ stdout: "0" }));
    sizes[part] = Math.round(Number(stdout.split("\t", 1)[0]) / 1e5) / 10;
  }
  return sizes;
}

/** `uid:gid` of a USER line, which must be by number: only so can a cluster see that it is not root. */
async function userOf(root: string, user: string): Promise<string> {
  const [uid, gid] = user.split(":");
  const passwd = await readFile(join(root, "etc/passwd"), "utf8");
  if (!new RegExp(`^dryapi:x:${uid}:${gid}:`, "m").test(passwd))
    throw new Error(`USER ${user} is not the numbers of dryapi in /etc/passwd`);
  return user;
}
