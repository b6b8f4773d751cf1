import { execFile, spawn, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile, rename, rm, writeFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { promisify } from "node:util";

const exec = promisify(execFile);
const ROOT = join(import.meta.dirname, "..", "..");
const CACHE = join(ROOT, ".cache", "units");
/** A bare Debian with systemd; what dryapi needs is installed by the page's own commands. */
const PACKAGES = ["systemd", "systemd-sysv", "dbus", "ca-certificates"];
const CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt";
const OUTPUT_BYTES = 64 << 20;
/** Longest wait for anything that a unit does by itself; the growing pause alone takes three minutes. */
const WAIT_MS = 600_000;

interface ShellOptions {
  /** `host`: this machine's network, for package registries. Default: the container's own, which has its loopback alone. */
  readonly network?: "own" | "host";
}

/** A Debian of its own with systemd as PID 1, in a container of systemd-nspawn. Needs root, debootstrap and systemd-container. */
export class UnitHost implements AsyncDisposable {
  readonly #dir: string;
  readonly #console: string[] = [];
  #nspawn: ChildProcess;

  private constructor(dir: string) {
    this.#dir = dir;
    this.#nspawn = this.#start();
  }

  /** Boots a copy of a cached root of that Debian release. */
  static async boot(suite: string): Promise<UnitHost> {
    const dir = join(CACHE, `run-${process.pid}`);
    // What a run that was killed has left: two gigabytes each.
    for (const name of await readdir(CACHE).catch(() => []))
      if (/^run-\d+$/.test(name) && !existsSync(`/proc/${name.slice(4)}`)) await rm(join(CACHE, name), { recursive: true, force: true });
    await exec("cp", ["-a", "--reflink=auto", await bareRoot(suite), dir]);
    await mkdir(join(CACHE, "apt", "partial"), { recursive: true });
    await mkdir(join(CACHE, "npm"), { recursive: true });
    // Where this machine's way out has a certificate of its own, the container's registries are behind it too.
    if (existsSync(CERTIFICATES)) await copyFile(CERTIFICATES, join(dir, CERTIFICATES));
    const host = new UnitHost(dir);
    try {
      await host.booted();
      return host;
    } catch (thrown) {
      await host[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  /** As `systemctl reboot`: the container ends, and what is enabled comes up in a new one on the same files. */
  async reboot(): Promise<void> {
    const ended = once(this.#nspawn, "exit");
    await this.sh("systemctl --no-block reboot");
    await ended;
    this.#nspawn = this.#start();
    await this.booted();
  }

  /** Resolves once systemd has started all that is enabled. */
  async booted(): Promise<void> {
    await this.until("systemd runs in the container", async () => {
      if (this.#nspawn.exitCode !== null) throw new Error(`systemd-nspawn ended with ${this.#nspawn.exitCode}:\n${this.#console.join("")}`);
      const state = await this.sh("systemctl is-system-running || true").catch(() => "");
      return /running|degraded/.test(state);
    });
  }

  /** Runs a shell script as root inside; resolves to what it printed. @throws Error with all of its output when it fails */
  async sh(script: string, { network = "own" }: ShellOptions = {}): Promise<string> {
    const namespaces = ["--mount", "--uts", "--ipc", "--pid", ...(network === "own" ? ["--net"] : [])];
    const env = [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "HOME=/root",
      "DEBIAN_FRONTEND=noninteractive",
      "LC_ALL=C.UTF-8",
      ...(network === "host" ? [`NODE_EXTRA_CA_CERTS=${CERTIFICATES}`] : []),
    ];
    const args = ["--target", await this.#leader(), ...namespaces, "env", "-i", ...env, "sh", "-c", `cd /root\nset -e\n${script}`];
    try {
      const { stdout } = await exec("nsenter", args, { maxBuffer: OUTPUT_BYTES });
      return stdout.trim();
    } catch (thrown) {
      const { stdout, stderr } = thrown as { stdout?: string; stderr?: string };
      throw new Error(`${script}\nfailed:\n${stdout ?? ""}${stderr ?? ""}`, { cause: thrown });
    }
  }

  /** A script of this package, run on this machine within the container's network. */
  async client(...args: readonly string[]): Promise<string> {
    const fixture = join(ROOT, "test/fixtures/unit-client.ts");
    return (await exec("nsenter", ["--target", await this.#leader(), "--net", process.execPath, fixture, ...args])).stdout.trim();
  }

  /** Copies a file of this machine to /root. */
  async put(path: string, name: string): Promise<void> {
    await copyFile(path, join(this.#dir, "root", name));
  }

  /** Writes a drop-in as `systemctl edit` does; an empty one is removed. */
  async edit(unit: string, ...lines: readonly string[]): Promise<void> {
    const folder = `/etc/systemd/system/${unit}.service.d`;
    const write =
      lines.length === 0
        ? `rm -rf ${folder}`
        : `mkdir -p ${folder}; cat >${folder}/override.conf <<'END'\n[Service]\n${lines.join("\n")}\nEND`;
    await this.sh(`${write}\nsystemctl daemon-reload`);
  }

  async property(unit: string, name: string): Promise<string> {
    return this.sh(`systemctl show --property=${name} --value ${unit}`);
  }

  async journal(unit: string): Promise<string> {
    return this.sh(`journalctl --unit=${unit} --output=cat --no-pager --boot`);
  }

  /** Looks until it is so. */
  async until(what: string, look: () => Promise<boolean>): Promise<void> {
    for (const end = performance.now() + WAIT_MS; performance.now() < end;) {
      if (await look()) return;
      await wait(500);
    }
    throw new Error(`${what}: not within ${WAIT_MS} ms\n${this.#console.join("").slice(-2_000)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#nspawn.exitCode === null) {
      const ended = once(this.#nspawn, "exit");
      const late = setTimeout(() => this.#nspawn.kill("SIGKILL"), 60_000);
      this.#nspawn.kill("SIGTERM");
      await ended;
      clearTimeout(late);
    }
    await rm(this.#dir, { recursive: true, force: true });
  }

  #start(): ChildProcess {
    const args = [
      "--quiet",
      // A host that runs no systemd itself has nobody to register with.
      "--register=no",
      "--keep-unit",
      "--link-journal=no",
      "--boot",
      `--directory=${this.#dir}`,
      `--machine=dryapi-units-${process.pid}`,
      "--private-network",
      "--resolv-conf=copy-host",
      `--bind=${join(CACHE, "apt")}:/var/cache/apt/archives`,
      `--bind=${join(CACHE, "npm")}:/root/.npm`,
      "--console=pipe",
      "--kill-signal=SIGRTMIN+3",
      // From 256 on systemd boots on cgroup v1, which some hosts still have, only when it is told to.
      "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
    ];
    const nspawn = spawn("systemd-nspawn", args, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [nspawn.stdout, nspawn.stderr]) stream.setEncoding("utf8").on("data", (text: string) => this.#console.push(text));
    return nspawn;
  }

  /** PID 1 of the container, as this machine counts. Another one after a reboot. */
  async #leader(): Promise<string> {
    const pid = this.#nspawn.pid ?? 0;
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
    const [leader] = children.trim().split(" ");
    if (leader === undefined || leader === "") throw new Error(`the container has no process:\n${this.#console.join("")}`);
    return leader;
  }
}

/** The cached root: made once for each list of packages. */
async function bareRoot(suite: string): Promise<string> {
  const stamp = createHash("sha256")
    .update(JSON.stringify([suite, PACKAGES]))
    .digest("hex")
    .slice(0, 12);
  const root = join(CACHE, `${suite}-${stamp}`);
  if (existsSync(root)) return root;
  await mkdir(CACHE, { recursive: true });
  const unfinished = `${root}.partial`;
  await rm(unfinished, { recursive: true, force: true });
  await exec("debootstrap", ["--variant=minbase", `--include=${PACKAGES.join(",")}`, suite, unfinished], { maxBuffer: OUTPUT_BYTES });
  // A container that is thrown away needs no fsync of each file.
  await writeFile(join(unfinished, "etc/dpkg/dpkg.cfg.d/unsafe-io"), "force-unsafe-io\n");
  await rename(unfinished, root);
  return root;
}

/** The commands of a marked part of docs/systemd.md, in order. */
export async function pageCommands(part: string): Promise<readonly string[]> {
  const page = await readFile(join(ROOT, "docs/systemd.md"), "utf8");
  const text = new RegExp(`<!-- begin ${part} -->([^]*?)<!-- end ${part} -->`).exec(page)?.[1] ?? "";
  const commands = [...text.matchAll(/```sh\n([^]*?)```/g)].flatMap(([, block = ""]) => block.split("\n"));
  const kept = commands.filter((line) => line !== "" && !line.startsWith("#"));
  if (kept.length === 0) throw new Error(`docs/systemd.md has no commands between "begin ${part}" and "end ${part}"`);
  return kept;
}

/** The package as npm would publish it; resolves to the archive's path. */
export async function packPackage(): Promise<string> {
  await mkdir(CACHE, { recursive: true });
  await exec("npm", ["run", "build", "--ignore-scripts=false"], { cwd: ROOT, maxBuffer: OUTPUT_BYTES });
  const { stdout } = await exec("npm", ["pack", "--json", `--pack-destination=${CACHE}`], { cwd: ROOT, maxBuffer: OUTPUT_BYTES });
  const [packed] = JSON.parse(stdout.slice(stdout.indexOf("["))) as { filename: string }[];
  if (packed === undefined) throw new Error(`npm pack named no archive: ${stdout}`);
  return join(CACHE, packed.filename);
}
