/**
 * Installs the npm package as strangers do and uses it: in an empty folder, with npm 10, 11 and 12, on Node 20, 22 and 24, in the folder and
 * globally, while no host but the registry has an address. Needs root (a mount namespace of its own), and the registry.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { lookup } from "node:dns/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { packCheckout } from "../test/support/packed.ts";

const exec = promisify(execFile);
const REGISTRY = new URL((await exec("npm", ["config", "get", "registry"])).stdout.trim());
const LIMIT_MS = 300_000;

interface Way {
  readonly node: 20 | 22 | 24;
  readonly npm: 10 | 11 | 12;
  readonly global?: boolean;
}

const WAYS: readonly Way[] = [
  { node: 20, npm: 10 },
  { node: 20, npm: 11 },
  { node: 22, npm: 11 },
  { node: 24, npm: 11 },
  { node: 22, npm: 11, global: true },
  { node: 24, npm: 12 },
];

if (process.getuid?.() !== 0) throw new Error("verify package needs root: it gives the installs a /etc/hosts and resolv.conf of their own");
await using packed = await packCheckout();
const dir = await mkdtemp(join(tmpdir(), "dryapi-verify-package-"));
const hosts = await writeHosts();
try {
  for (const name of new Set(WAYS.flatMap(({ node, npm }) => [`node-linux-${process.arch}@${node}`, `npm@${npm}`]))) {
    const tool = join(dir, name);
    await mkdir(tool);
    await exec("npm", ["install", "--prefix", tool, "--ignore-scripts", "--no-audit", "--no-fund", name], { cwd: tool });
  }
  await provesIsolation();
  for (const way of WAYS) await tryWay(way);
  await withoutNode24();
  console.log("verify package: all ways work");
} finally {
  await rm(dir, { recursive: true, force: true });
}

/** Names are looked up in this file alone, and it knows the registry alone. */
async function writeHosts(): Promise<string> {
  const { address } = await lookup(REGISTRY.hostname);
  const path = join(dir, "hosts");
  await writeFile(path, `127.0.0.1 localhost\n${address} ${REGISTRY.hostname}\n`);
  await writeFile(join(dir, "resolv.conf"), "nameserver 127.0.0.254\n");
  await writeFile(join(dir, "nsswitch.conf"), "hosts: files\n");
  return path;
}

/** A command line that sees those files in the place of the machine's. */
function offline(...command: readonly string[]): readonly [string, readonly string[]] {
  const binds = [
    [hosts, "/etc/hosts"],
    [join(dir, "resolv.conf"), "/etc/resolv.conf"],
    [join(dir, "nsswitch.conf"), "/etc/nsswitch.conf"],
  ].map(([from, to]) => `touch ${to} && mount --bind '${from}' ${to}`);
  return ["unshare", ["--mount", "sh", "-c", `${binds.join(" && ")} && exec "$@"`, "sh", ...command]];
}

async function provesIsolation(): Promise<void> {
  const ask = (host: string): Promise<unknown> => {
    const [file, args] = offline(
      process.execPath,
      "-e",
      `require("dns").lookup(${JSON.stringify(host)}, (error) => process.exit(error ? 1 : 0))`,
    );
    return exec(file, [...args]);
  };
  await ask(REGISTRY.hostname);
  // Those that onnxruntime-node's own install script would ask.
  const scripts = join(import.meta.dirname, "..", "node_modules", "onnxruntime-node", "script", "install-metadata.js");
  const hosts = Array.from((await readFile(scripts, "utf8")).matchAll(/https:\/\/([a-z.]+)/g), ([, host = ""]) => host);
  if (hosts.length === 0) throw new Error(`${scripts} names no host any more: look where onnxruntime-node's install script downloads from`);
  for (const host of [...hosts, "example.org"]) {
    const hasAddress = await ask(host).then(
      () => true,
      () => false,
    );
    if (hasAddress) throw new Error(`${host} has an address: the installs would not be cut off`);
  }
}

interface Place {
  readonly home: string;
  readonly env: Record<string, string>;
  readonly dryapi: string;
}

function environment({ node, home }: { readonly node: number; readonly home: string }): Record<string, string> {
  const bin = join(dir, `node-linux-${process.arch}@${node}`, "node_modules", `node-linux-${process.arch}`, "bin");
  return {
    PATH: [bin, "/usr/bin", "/bin", "/usr/sbin", "/sbin"].join(delimiter),
    HOME: home,
    npm_config_registry: REGISTRY.href,
    npm_config_cache: join(dir, "cache"),
    npm_config_cafile: process.env["NODE_EXTRA_CA_CERTS"] ?? "/etc/ssl/certs/ca-certificates.crt",
    npm_config_update_notifier: "false",
    npm_config_audit: "false",
  };
}

async function install({ node, npm, global = false }: Way, ...more: readonly string[]): Promise<Place> {
  const home = await mkdtemp(join(dir, "home-"));
  const env = environment({ node, home });
  const prefix = join(home, "prefix");
  const tool = join(dir, `npm@${npm}`, "node_modules", "npm", "bin", "npm-cli.js");
  const how = global ? ["--global", "--prefix", prefix] : [];
  const [file, args] = offline("node", tool, "install", ...how, ...more, packed.tarball);
  await exec(file, [...args], { cwd: home, env, timeout: LIMIT_MS, maxBuffer: 2 ** 24 });
  return { home, env, dryapi: global ? join(prefix, "bin", "dryapi") : join(home, "node_modules", ".bin", "dryapi") };
}

async function tryWay(way: Way): Promise<void> {
  const started = performance.now();
  const name = `node ${way.node}, npm ${way.npm}${way.global === true ? ", global" : ""}`;
  const place = await install(way);
  const env = { ...place.env, DRYAPI_STATE_DIR: join(place.home, "state"), DRYAPI_TEST_MODELS: "on", DRYAPI_DEVICE: "cpu" };
  const dryapi = (...args: readonly string[]): Promise<{ readonly stdout: string }> => {
    const [file, line] = offline(place.dryapi, ...args);
    return exec(file, [...line], { cwd: place.home, env, timeout: LIMIT_MS, maxBuffer: 2 ** 24 });
  };
  const doctor = await dryapi("doctor");
  if (!/ok {4}device cpu:0/.test(doctor.stdout) || !/ok {4}onnxruntime .* through its C\s+API/.test(doctor.stdout))
    throw new Error(`${name}: doctor: ${doctor.stdout}`);
  await dryapi("fetch-cuda", "--help");
  const up = await startUp(place, env);
  try {
    const fields = ["model=tiny-flux-schnell", "prompt=a lighthouse", "width=64", "height=64", "steps=2"];
    const { stdout } = await dryapi("submit", "txt2img", ...fields, "--json", "--out", join(place.home, "pictures"));
    const report = JSON.parse(stdout) as { readonly status: string; readonly files: readonly { readonly path: string }[] };
    const [first] = report.files;
    const picture = await readFile(first?.path ?? "");
    if (report.status !== "done" || picture.subarray(1, 4).toString() !== "PNG") throw new Error(`${name}: no picture: ${stdout}`);
  } finally {
    const ended = new Promise((resolve) => up.once("exit", resolve));
    up.kill("SIGTERM");
    await ended;
  }
  await rm(place.home, { recursive: true, force: true });
  console.log(`verify package: ${name}: installed, doctor, up, a picture (${Math.round((performance.now() - started) / 1_000)} s)`);
}

async function startUp(place: Place, env: Record<string, string>): Promise<ChildProcess> {
  const [file, args] = offline(place.dryapi, "up");
  const ports = { DRYAPI_HTTP_PORT: "0", DRYAPI_ADMIN_PORT: "0" };
  const up = spawn(file, [...args], { cwd: place.home, env: { ...env, ...ports }, stdio: ["ignore", "pipe", "inherit"] });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`dryapi up was not up within ${LIMIT_MS} ms`)), LIMIT_MS);
  up.once("exit", (code) => reject(new Error(`dryapi up ended with code ${code}`)));
  createInterface({ input: up.stdout }).on("line", (line) => {
    if (line.startsWith("dryapi is up")) resolve();
  });
  await promise.finally(() => clearTimeout(timer));
  return up;
}

/** Without the optional package that brings Node 24 an older Node is told what is missing. */
async function withoutNode24(): Promise<void> {
  const place = await install({ node: 20, npm: 10 }, "--omit=optional");
  const said = await exec(place.dryapi, ["--version"], { env: place.env }).then(
    () => "",
    (thrown: { readonly stderr: string }) => thrown.stderr,
  );
  if (!/needs Node 24, this is v20\./.test(said)) throw new Error(`--omit=optional on Node 20 says: ${said || "nothing"}`);
  // koffi's binary is an optional package too: its install script would have compiled it.
  const compiled = await readdir(join(place.home, "node_modules", "koffi", "build")).catch(() => null);
  if (compiled !== null) throw new Error(`koffi's install script ran with --omit=optional: build holds ${compiled.join(", ")}`);
  console.log("verify package: node 20 with --omit=optional: told what is missing, and nothing was compiled");
}
