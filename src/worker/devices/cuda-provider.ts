import { execFile } from "node:child_process";
import { access, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { libraryPath } from "../runners/runner-env.ts";
import { missingLibraries } from "../runners/runner-recorder.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** What is asked of the machine; replaced in tests. */
export interface CudaProbes {
  readonly exists: (path: string) => Promise<boolean>;
  /** Trimmed text of a file, null when it cannot be read. */
  readonly readText: (path: string) => Promise<string | null>;
  /** What the loader says of a library's dependencies, with that LD_LIBRARY_PATH; null where it cannot be asked. */
  readonly ldd: (path: string, libraryPath: string) => Promise<string | null>;
  /** The loader's cache (`ldconfig -p`); "" where there is none. */
  readonly loaderCache: () => Promise<string>;
  /** Folder of the npm package's own libonnxruntime.so.1, and the package's version. */
  readonly bundled: { readonly dir: string; readonly version: string };
}

export type CudaProvider =
  | { readonly ok: true; readonly dir: string; readonly cudaMajor: number }
  /** `why` names what is missing and what to do. */
  | { readonly ok: false; readonly why: string };

const PROVIDERS: readonly string[] = ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"];

/**
 * Opened by name when the first convolution runs, so `ldd` does not list it (seen in the 1.30.0 wheel): without it a model loads and
 * its first job fails. cuDNN 9 since onnxruntime 1.19.
 */
const CUDNN = "libcudnn.so.9";

/**
 * Whether a runner will be able to load onnxruntime's CUDA provider, from files alone: the daemon never loads onnxruntime. The provider
 * is looked for beside the libonnxruntime.so.1 that the loader finds first.
 */
export async function findCudaProvider(env: Env, probes: CudaProbes): Promise<CudaProvider> {
  const path = libraryPath(env);
  const dir = await runtimeDir(path, probes);
  const absent = await missingFiles(dir, PROVIDERS, probes);
  if (absent.length > 0) {
    const given = env["DRYAPI_ORT_DIR"];
    const unused = given === undefined || given === "" || given === dir ? "" : `; DRYAPI_ORT_DIR=${given} holds no libonnxruntime.so.1`;
    return { ok: false, why: `${missingLibraries(absent)} (looked in ${dir}${unused})` };
  }
  const written = await probes.readText(join(dir, "ORT_VERSION"));
  if (written !== null && written !== probes.bundled.version) {
    return {
      ok: false,
      why: `${dir} holds onnxruntime ${written}, the npm package is ${probes.bundled.version}, and the two must be equal: run \`dryapi fetch-cuda\` again`,
    };
  }
  const listing = await probes.ldd(join(dir, "libonnxruntime_providers_cuda.so"), path);
  if (listing === null) return { ok: false, why: "ldd could not be run on the CUDA provider: install libc-bin" };
  // Its own companion is found by its place, whatever ldd says.
  const missing = Array.from(listing.matchAll(/^\s*(\S+) => not found/gm), (match) => match[1] ?? "").filter(
    (name) => !PROVIDERS.includes(name),
  );
  if (!(await isFindable(CUDNN, [dir, ...path.split(":")], probes))) missing.push(CUDNN);
  if (missing.length > 0) return { ok: false, why: `the CUDA provider in ${dir} cannot be loaded: ${missingLibraries(missing)}` };
  return { ok: true, dir, cudaMajor: Number(/libcublasLt\.so\.(\d+)/.exec(listing)?.[1] ?? "0") };
}

async function runtimeDir(path: string, probes: CudaProbes): Promise<string> {
  for (const dir of path.split(":")) {
    if (dir !== "" && (await probes.exists(join(dir, "libonnxruntime.so.1")))) return dir;
  }
  return probes.bundled.dir;
}

async function missingFiles(dir: string, names: readonly string[], probes: CudaProbes): Promise<string[]> {
  const found = await Promise.all(names.map((name) => probes.exists(join(dir, name))));
  return names.filter((_, i) => found[i] !== true);
}

async function isFindable(name: string, dirs: readonly string[], probes: CudaProbes): Promise<boolean> {
  for (const dir of dirs) if (dir !== "" && (await probes.exists(join(dir, name)))) return true;
  return (await probes.loaderCache()).includes(`${name} `);
}

/** Asks this machine. @throws when onnxruntime-node is not installed at all */
export async function machineCudaProbes(): Promise<CudaProbes> {
  const readText: CudaProbes["readText"] = (path) =>
    readFile(path, "utf8").then(
      (text) => text.trim(),
      () => null,
    );
  const entry = createRequire(import.meta.url).resolve("onnxruntime-node");
  const root = join(dirname(entry), "..");
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { readonly version: string };
  return {
    exists: (path) =>
      access(path).then(
        () => true,
        () => false,
      ),
    readText,
    ldd: (path, libraries) => output("ldd", [path], { ...process.env, LD_LIBRARY_PATH: libraries, LC_ALL: "C" }),
    loaderCache: async () =>
      (await output("ldconfig", ["-p"], { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/sbin:/usr/sbin` })) ?? "",
    bundled: { dir: join(root, "bin", "napi-v6", process.platform, process.arch), version },
  };
}

function output(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(program, [...args], { env, timeout: 30_000, maxBuffer: 16 * 1024 * 1024 }, (error, stdout) =>
      resolve(error === null ? stdout : null),
    );
  });
}
