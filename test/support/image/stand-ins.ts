import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, copyFile, cp, lstat, mkdir, mkdtemp, readdir, readlink, realpath, rename, rm, symlink, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import type { Layer, Layers } from "./layers.ts";
import type { ReplayOptions, StandIn } from "./replay.ts";

const run = promisify(execFile);

/** What a replay needs to know of where its base images come from. */
export type Bases = Pick<ReplayOptions, "standIn" | "runEnv" | "binds" | "before">;

/** Where a stand-in sees this machine's npm. */
const NPM = "/stand-in/npm";

/** Programs that would need the network; each still asks for the files that the real one reads. */
const PROGRAMS: Readonly<Record<string, string>> = {
  "apt-get": "exit 0",
  npm: `
case "$1" in
  ci) for file in package.json package-lock.json .npmrc; do [ -f "$file" ] || { echo "npm ci: no $file in $PWD" >&2; exit 1; }; done
      # As npm does: the project's own scripts run unless they are told not to.
      case " $* " in *" --ignore-scripts "*) ;; *)
        for script in preinstall install postinstall prepare; do
          command=$(node -p "require('./package.json').scripts?.$script ?? ''")
          [ -z "$command" ] || sh -c "$command" || exit 1
        done ;;
      esac
      [ -d node_modules ] ;;
  *) exec node ${NPM}/bin/npm-cli.js "$@" ;;
esac`,
  // fetch-cuda.sh asks pip for one wheel, unzip for its files and ldd for the CUDA version.
  python3: `
while [ $# -gt 0 ]; do
  case "$1" in
    -r) grep -q -- '--hash=sha256:[0-9a-f]' "$2" || { echo "pip: no hash in $2" >&2; exit 1; } ;;
    --dest) touch "$2/onnxruntime_gpu.whl" ;;
  esac
  shift
done`,
  unzip: `
mkdir -p "$4/lib"
touch "$4/lib/libonnxruntime_providers_shared.so"
cp node_modules/onnxruntime-node/package.json "$4/lib/libonnxruntime_providers_cuda.so"`,
  ldd: 'echo "libcublasLt.so.13 => not found"',
};

/**
 * This machine's own programs and libraries in place of each base image, without a network: quick enough for each run of the tests. What
 * packages (apt, npm, pip) would bring is taken from this machine or left out. /usr/local, /opt, /root and /var are empty.
 */
export async function hostBases(layers: Layers, root: string, dir: string): Promise<Bases> {
  const own = join(dir, "own");
  for (const folder of ["dev", "proc", "tmp", "root", "run", "var/tmp", "opt", "usr/local/bin", "usr/local/sbin", NPM])
    await mkdir(join(own, folder), { recursive: true });
  await chmod(join(own, "tmp"), 0o1777);
  await run("cp", ["-a", "/etc", own]);
  for (const name of ["shadow", "gshadow"]) await writeFile(join(own, "etc", name), "root:*::\n");
  await writeFile(join(own, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  await writeFile(join(own, "etc/group"), "root:x:0:\n");
  for (const [name, text] of Object.entries(PROGRAMS))
    await writeFile(join(own, "usr/local/sbin", name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  const withNode = join(dir, "node");
  await mkdir(join(withNode, "usr/local/bin"), { recursive: true });
  await copyFile(process.execPath, join(withNode, "usr/local/bin/node"));
  const binds: [string, string][] = [[await npmFolder(), NPM]];
  const shared = (await readdir("/usr")).filter((name) => name !== "local").map((name) => `/usr/${name}`);
  for (const path of [...shared, "/bin", "/sbin", "/lib", "/lib64"]) {
    const stats = await lstat(path).catch(() => null);
    if (stats?.isSymbolicLink() === true) await symlink(await readlink(path), join(own, path));
    else if (stats !== null) {
      await mkdir(join(own, path));
      binds.push([path, path]);
    }
  }
  const plain = await layers.base("this machine", own);
  const node = layers.upon(plain, await layers.base("node", withNode));
  const before = async (command: string, workdir: string): Promise<Layer | null> => {
    if (!/^npm ci\b/.test(command)) return null;
    const folder = join(dir, `modules${workdir.replaceAll("/", "-")}`);
    const modules = join(folder, workdir, "node_modules");
    if (!existsSync(folder)) {
      await mkdir(dirname(modules), { recursive: true });
      // Links are quick, and a lower layer's files are never written to.
      const from = await realpath(join(root, "node_modules"));
      await run("cp", ["-al", from, modules]).catch(() => run("cp", ["-a", from, dirname(modules)]));
    }
    return layers.base(`node_modules of ${workdir}`, folder);
  };
  return { standIn: (image) => Promise.resolve({ layer: image.startsWith("node:") ? node : plain, env: {} }), binds, before };
}

/** The folder of npm's own package. */
async function npmFolder(): Promise<string> {
  for (const dir of (process.env["PATH"] ?? "").split(delimiter))
    if (existsSync(join(dir, "npm"))) return join(dirname(await realpath(join(dir, "npm"))), "..");
  throw new Error("npm is not in the PATH: the replay of the Dockerfile needs it");
}

/**
 * Roots of Debian in place of the base images, made once by debootstrap and kept in `cache`; apt, npm and pip of the steps are the real ones.
 * Ubuntu's base of the CUDA image is Debian 13 here, a neighbour in age, and has no CUDA.
 */
export async function debianBases(layers: Layers, cache: string): Promise<Bases> {
  const bookworm = await layers.base("bookworm", await debianRoot(cache, "bookworm"));
  const trixie = await layers.base("trixie", await debianRoot(cache, "trixie"));
  const node = await layers.add(bookworm, "node and npm", async (root) => {
    await copyFile(process.execPath, join(root, "usr/local/bin/node"));
    await run("npm", ["install", "--global", "--prefix", join(root, "usr/local"), "npm@11"]);
  });
  const known: readonly (readonly [RegExp, Layer])[] = [
    [/^node:24-bookworm-slim(@|$)/, node],
    [/^debian:bookworm-slim(@|$)/, bookworm],
    [/^nvidia\/cuda:13\.[\d.]+-cudnn-runtime-ubuntu24\.04(@|$)/, trixie],
  ];
  const standIn = (image: string): Promise<StandIn> => {
    const layer = known.find(([pattern]) => pattern.test(image))?.[1];
    return layer === undefined
      ? Promise.reject(new Error(`nothing stands in for the base image ${image}`))
      : Promise.resolve({ layer, env: {} });
  };
  const authorities = machineAuthorities() === undefined ? {} : { NODE_EXTRA_CA_CERTS: AUTHORITIES, PIP_CERT: AUTHORITIES };
  const passed = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { standIn, runEnv: { ...Object.fromEntries(passed), ...authorities } };
}

/** In the roots: whom this machine trusts beside the usual authorities, where that is said. */
const AUTHORITIES = "/etc/stand-in-authorities.pem";

function machineAuthorities(): string | undefined {
  return process.env["NODE_EXTRA_CA_CERTS"];
}

async function debianRoot(cache: string, suite: string): Promise<string> {
  const root = join(cache, suite);
  if (!existsSync(root)) {
    await mkdir(cache, { recursive: true });
    const partial = await mkdtemp(join(cache, `${suite}.partial-`));
    await run("debootstrap", ["--variant=minbase", suite, partial], { maxBuffer: 64 * 1024 * 1024 });
    await chmod(partial, 0o755);
    await rename(partial, root).catch(() => rm(partial, { recursive: true }));
  }
  await cp("/etc/resolv.conf", join(root, "etc/resolv.conf"), { dereference: true });
  const authorities = machineAuthorities();
  if (authorities !== undefined) await copyFile(authorities, join(root, AUTHORITIES));
  return root;
}
