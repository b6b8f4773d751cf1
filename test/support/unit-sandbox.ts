import { unitEnvironment, type UnitFile } from "./unit-file.ts";

/** A user that no machine has: units run as one that owns nothing. */
export const UNIT_USER = 61_184;
/** systemd's own, for system services. */
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

export interface SandboxOptions {
  /** The package, as it will be seen in /opt/dryapi-worker. */
  readonly root: string;
  /** Folder that stands for the host's /var/lib (`lib`) and /run (`run`). */
  readonly host: string;
  /** What an operator edits in the env files, and what systemd itself would set. */
  readonly env: Readonly<Record<string, string>>;
}

/**
 * A shell script for a mount namespace of its own (as root): makes it what ProtectSystem, ProtectHome, PrivateTmp, StateDirectory and
 * RuntimeDirectory of the unit say, becomes a user without rights, and then runs ExecStartPre and ExecStart in the unit's environment.
 * The rest of a unit (seccomp, address families, devices) needs systemd: `scripts/verify units`.
 */
export async function sandboxScript(unit: UnitFile, { root, host, env }: SandboxOptions): Promise<string> {
  const folders = [
    ...unit.all("StateDirectory").flatMap((value) => value.split(" ").map((name) => `/var/lib/${name}`)),
    ...unit.all("RuntimeDirectory").flatMap((value) => value.split(" ").map((name) => `/run/${name}`)),
  ];
  const variables = {
    PATH: DEFAULT_PATH,
    HOME: "/var/lib/dryapi",
    USER: unit.one("User"),
    STATE_DIRECTORY: folders.filter((folder) => folder.startsWith("/var/lib/")).join(":"),
    RUNTIME_DIRECTORY: folders.filter((folder) => folder.startsWith("/run/")).join(":"),
    ...(await unitEnvironment(unit)),
    ...env,
  };
  const commands = [...unit.all("ExecStartPre"), `exec ${unit.one("ExecStart")}`].map((command) =>
    command.replace(/^(exec )?[-@+!:]+/, "$1"),
  );
  return [
    "set -eu",
    "mount -t tmpfs -o mode=755 opt /opt",
    "mkdir /opt/dryapi-worker",
    `mount --bind ${quoted(root)} /opt/dryapi-worker`,
    `mount --bind ${quoted(`${host}/lib`)} /var/lib`,
    `mount --bind ${quoted(`${host}/run`)} /run`,
    ...folders.map(
      (folder) => `mkdir -p ${folder}; chown ${UNIT_USER}:${UNIT_USER} ${folder}; chmod ${unit.one("StateDirectoryMode")} ${folder}`,
    ),
    ...(unit.one("ProtectSystem") === "strict" ? [READ_ONLY] : []),
    ...folders.map((folder) => `mount --bind ${folder} ${folder}; mount -o remount,bind,rw ${folder}`),
    ...(unit.one("PrivateTmp") === "yes" ? ["mount -t tmpfs -o mode=1777 tmp /tmp", "mount -t tmpfs -o mode=1777 tmp /var/tmp"] : []),
    ...(unit.one("ProtectHome") === "yes" ? ["for home in /home /root; do mount -t tmpfs -o ro,mode=0000 home $home; done"] : []),
    "cd /",
    `umask ${unit.one("UMask")}`,
    `exec setpriv --reuid ${UNIT_USER} --regid ${UNIT_USER} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all env -i ${Object.entries(
      variables,
    )
      .map(([name, value]) => quoted(`${name}=${value}`))
      .join(" ")} sh -c ${quoted(commands.join("\n"))}`,
  ].join("\n");
}

/** ProtectSystem=strict: all of the file system but /dev, /proc and /sys. */
const READ_ONLY = `while read -r _ _ _ _ target _; do
  case $target in /dev|/dev/*|/proc|/proc/*|/sys|/sys/*) continue;; esac
  mount -o remount,bind,ro "$(printf '%b' "$target")"
done </proc/self/mountinfo`;

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
