import { execFile } from "node:child_process";
import { access, readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  compareVersions,
  findOrtLibrary,
  MIN_ORT_VERSION,
  packagedOrt,
  providerIsOf,
  readOrtVersion,
  type PackagedOrt,
} from "../../lib/ort-files.ts";
import { givenOrtDir, libraryPath, ortDir } from "../runners/runner-env.ts";
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
  /** onnxruntime's library in a folder; null where there is none. */
  readonly findLibrary: (dir: string) => string | null;
  /** A library's version; null where it says none. */
  readonly versionOf: (library: string) => Promise<string | null>;
  /** Whether a provider's library is of that version. */
  readonly isOf: (provider: string, version: string) => Promise<boolean>;
  readonly bundled: PackagedOrt;
}

export type CudaProvider =
  | { readonly ok: true; readonly dir: string; readonly path: string; readonly version: string; readonly cudaMajor: number }
  /** `why` names what is missing and what to do. */
  | { readonly ok: false; readonly why: string };

const CUDA_PROVIDER = "libonnxruntime_providers_cuda.so";
const PROVIDERS: readonly string[] = ["libonnxruntime_providers_shared.so", CUDA_PROVIDER];

/**
 * Opened by name when the first convolution runs, so `ldd` does not list it (seen in the 1.30.0 wheel): without it a model loads and
 * its first job fails. cuDNN 9 since onnxruntime 1.19.
 */
const CUDNN = "libcudnn.so.9";

/**
 * Whether a runner will be able to load onnxruntime's CUDA provider, from files alone: the daemon never loads onnxruntime. The provider
 * is looked for beside the library that the runner will load.
 */
export async function findCudaProvider(env: Env, probes: CudaProbes): Promise<CudaProvider> {
  const path = libraryPath(env);
  const library = probes.findLibrary(ortDir(env));
  const dir = library === null ? probes.bundled.dir : ortDir(env);
  const absent = await missingFiles(dir, PROVIDERS, probes);
  if (absent.length > 0) {
    const given = givenOrtDir(env);
    const unused = given === null || given === dir ? "" : `; DRYAPI_ORT_DIR=${given} holds no onnxruntime`;
    return { ok: false, why: `${missingLibraries(absent)} (looked in ${dir}${unused})` };
  }
  const wrong = library === null ? null : await wrongVersion(library, dir, env, probes);
  if (wrong !== null) return { ok: false, why: wrong };
  const listing = await probes.ldd(join(dir, CUDA_PROVIDER), path);
  if (listing === null) return { ok: false, why: "ldd could not be run on the CUDA provider: install libc-bin" };
  // Its own companion is found by its place, whatever ldd says.
  const missing = Array.from(listing.matchAll(/^\s*(\S+) => not found/gm), (match) => match[1] ?? "").filter(
    (name) => !PROVIDERS.includes(name),
  );
  if (!(await isFindable(CUDNN, [dir, ...path.split(":")], probes))) missing.push(CUDNN);
  if (missing.length > 0) return { ok: false, why: `the CUDA provider in ${dir} cannot be loaded: ${missingLibraries(missing)}` };
  const version = (library === null ? null : await probes.versionOf(library)) ?? probes.bundled.version;
  return { ok: true, dir, path: join(dir, CUDA_PROVIDER), version, cudaMajor: Number(/libcublasLt\.so\.(\d+)/.exec(listing)?.[1] ?? "0") };
}

/** A provider of another version than the library that loads it crashes the process. */
async function wrongVersion(library: string, dir: string, env: Env, probes: CudaProbes): Promise<string | null> {
  const version = await probes.versionOf(library);
  if (version === null) return null;
  const needed = probes.bundled.version;
  if (env["DRYAPI_RUNTIME"]?.toLowerCase() === "node" && version !== needed)
    return `${dir} holds onnxruntime ${version}, and DRYAPI_RUNTIME=node needs exactly the npm package's ${needed}: run \`dryapi fetch-cuda\` again, or leave DRYAPI_RUNTIME out`;
  if (compareVersions(version, MIN_ORT_VERSION) < 0)
    return `${dir} holds onnxruntime ${version}, expected ${MIN_ORT_VERSION} or later: run \`dryapi fetch-cuda\` again`;
  const written = await probes.readText(join(dir, "ORT_VERSION"));
  const provider = join(dir, CUDA_PROVIDER);
  if (written === null ? await probes.isOf(provider, version) : written === version) return null;
  const found = written === null ? "of another version" : `of ${written}`;
  return `${provider} is ${found}, ${library} is onnxruntime ${version}, and the two must be equal: run \`dryapi fetch-cuda\` again, or take both from one package`;
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
export function machineCudaProbes(): CudaProbes {
  const readText: CudaProbes["readText"] = (path) =>
    readFile(path, "utf8").then(
      (text) => text.trim(),
      () => null,
    );
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
    findLibrary: findOrtLibrary,
    versionOf: readOrtVersion,
    isOf: providerIsOf,
    bundled: packagedOrt(),
  };
}

function output(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(program, [...args], { env, timeout: 30_000, maxBuffer: 16 * 1024 * 1024 }, (error, stdout) =>
      resolve(error === null ? stdout : null),
    );
  });
}
