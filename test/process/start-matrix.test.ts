/**
 * Programs x what keeps them from starting: each ends by itself, with its documented code (docs/exit-codes.md), and says what is wrong and
 * what to do. Programs x what they wait for: a signal ends the wait. All with real processes; one that hangs is killed and fails its test.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connectRedis } from "../../src/state/connect-redis.ts";
import { startPrivateRedis, type PrivateRedis } from "../../src/state/private-redis.ts";
import { StartRig } from "../support/start-rig.ts";

type Env = Readonly<Record<string, string>>;

const PASSWORD = "red1s-pa55w0rd";
/** An address that no machine has (RFC 5737). */
const FOREIGN = "192.0.2.1";
/** A folder that takes nothing, from root neither. */
const SEALED = "/proc/dryapi";
/** The same, but it is there. */
const READ_ONLY = "/sys/kernel";

interface Place {
  readonly redis: string;
  readonly taken: number;
  readonly http: number;
  readonly file: string;
}

interface Row {
  readonly what: string;
  readonly programs: readonly string[];
  readonly env: (place: Place) => Env;
  readonly code: number;
  readonly says: RegExp;
}

const DAEMONS = ["worker", "gateway", "courier"];
const PROGRAMS = [...DAEMONS, "up"];
const COMMANDS = ["clients list"];

const NEVER_START: readonly Row[] = [
  {
    what: "HTTP port taken",
    programs: ["gateway", "up"],
    env: ({ taken }) => ({ DRYAPI_HTTP_PORT: String(taken) }),
    code: 2,
    says: /cannot listen on 127\.0\.0\.1:\d+ \(.*EADDRINUSE.*set DRYAPI_HTTP_PORT to a free port/,
  },
  {
    what: "admin port taken",
    programs: PROGRAMS,
    env: ({ taken }) => ({ DRYAPI_ADMIN_PORT: String(taken) }),
    code: 2,
    says: /cannot bind 127\.0\.0\.1:\d+ \(.*EADDRINUSE.*set DRYAPI_ADMIN_PORT to a free port/,
  },
  {
    what: "HTTP address of another machine",
    programs: ["gateway"],
    env: () => ({ DRYAPI_HTTP_HOST: FOREIGN }),
    code: 2,
    says: /cannot listen on 192\.0\.2\.1:0 .*set DRYAPI_HTTP_HOST to an address of this machine/,
  },
  {
    what: "admin address of another machine",
    programs: ["worker"],
    env: () => ({ DRYAPI_ADMIN_HOST: FOREIGN }),
    code: 2,
    says: /cannot bind 192\.0\.2\.1:0 .*set DRYAPI_ADMIN_HOST to an address of this machine/,
  },
  {
    what: "state folder that cannot be made",
    programs: ["worker", "up"],
    env: () => ({ DRYAPI_STATE_DIR: SEALED }),
    code: 2,
    says: /folder \/proc\/dryapi.* cannot be used: .*ENOENT/,
  },
  {
    what: "state folder that is a file",
    programs: ["worker", "up"],
    env: ({ file }) => ({ DRYAPI_STATE_DIR: file }),
    code: 2,
    says: /folder .*a-file.* cannot be used: /,
  },
  {
    what: "spool folder that cannot be written",
    programs: ["worker", "up"],
    env: () => ({ DRYAPI_SPOOL_DIR: READ_ONLY }),
    code: 2,
    says: /spool folder \/sys\/kernel cannot be used: .*(EPERM|EACCES|EROFS)/,
  },
  {
    what: "store that cannot be made",
    programs: DAEMONS,
    env: () => ({ DRYAPI_STORE: `file://${SEALED}` }),
    code: 3,
    says: /object store folder \/proc\/dryapi cannot be used: .*ENOENT.*set DRYAPI_STORE to another/,
  },
  {
    what: "store that takes no writes",
    programs: ["worker", "gateway", "up"],
    env: () => ({ DRYAPI_STORE: `file://${READ_ONLY}` }),
    code: 3,
    says: /file store \/sys\/kernel takes no writes: .*(EPERM|EACCES|EROFS).*give this program the right to write/,
  },
  {
    what: "no folder for temporary files",
    programs: ["worker", "gateway"],
    env: ({ file }) => ({ TMPDIR: join(file, "tmp") }),
    code: 2,
    says: /temporary folder .* cannot be used: .*set TMPDIR to another/,
  },
  {
    what: "Redis refuses the password",
    programs: [...PROGRAMS, ...COMMANDS],
    env: ({ redis }) => ({ REDIS_URL: redis.replace(PASSWORD, "wrong") }),
    code: 3,
    says: /Redis refuses the password .*set user and password in REDIS_URL/,
  },
  {
    what: "something else at Redis' address",
    programs: [...PROGRAMS, ...COMMANDS],
    env: ({ http }) => ({ REDIS_URL: `redis://127.0.0.1:${http}` }),
    code: 3,
    says: /does not speak Redis' protocol .*set host and port of REDIS_URL to a Redis/,
  },
  {
    what: "nothing at Redis' address",
    programs: COMMANDS,
    env: () => ({ REDIS_URL: "redis://127.0.0.1:1" }),
    code: 3,
    says: /Redis does not answer .*ECONNREFUSED/,
  },
  {
    what: "a wrong setting",
    programs: ["worker", "gateway", "clients list", "doctor"],
    env: () => ({ DRYAPI_LOCK_MS: "soon" }),
    code: 2,
    says: /DRYAPI_LOCK_MS is "soon", expected a duration/,
  },
  {
    what: "a device that is not there",
    programs: ["worker", "up"],
    // No nvidia-smi in the PATH: no driver, on any machine.
    env: ({ file }) => ({ DRYAPI_DEVICE: "cuda", PATH: join(file, "bin") }),
    code: 3,
    says: /device cuda was asked for, but nvidia-smi is missing.*install the NVIDIA driver/,
  },
];

interface Wait {
  readonly what: string;
  readonly programs: readonly string[];
  /** `silent`: the port of a server that accepts connections and never answers. */
  readonly env: (silent: number) => Env;
  /** Said once it waits; null: when it has connected. */
  readonly says: RegExp | null;
  readonly signal: "SIGTERM" | "SIGINT";
  readonly code: number;
}

const WAITS: readonly Wait[] = [
  {
    what: "Redis that is away",
    programs: DAEMONS,
    env: () => ({ REDIS_URL: "redis://127.0.0.1:1" }),
    says: /Redis does not answer|metrics and health/,
    signal: "SIGTERM",
    code: 0,
  },
  {
    what: "Redis that accepts and never answers",
    programs: [...DAEMONS, "up"],
    env: (silent) => ({ REDIS_URL: `redis://127.0.0.1:${silent}` }),
    says: null,
    signal: "SIGTERM",
    code: 0,
  },
  {
    what: "Redis that accepts and never answers",
    programs: COMMANDS,
    env: (silent) => ({ REDIS_URL: `redis://127.0.0.1:${silent}` }),
    says: null,
    signal: "SIGINT",
    code: 130,
  },
  {
    what: "S3 that accepts and never answers",
    programs: ["worker", "gateway"],
    env: (silent) => ({
      DRYAPI_STORE: `s3://bucket?endpoint=http://127.0.0.1:${silent}`,
      AWS_ACCESS_KEY_ID: "AKIDEXAMPLE",
      AWS_SECRET_ACCESS_KEY: "secret",
    }),
    says: null,
    signal: "SIGTERM",
    code: 0,
  },
];

describe("what keeps a program from starting", { concurrency: 4 }, () => {
  let rig: StartRig;
  let redis: PrivateRedis;
  let place: Place;
  before(async () => {
    rig = await StartRig.open();
    redis = await startPrivateRedis({ dir: join(rig.dir, "redis") });
    const client = connectRedis({ url: redis.url, role: "worker" });
    await client.config("SET", "requirepass", PASSWORD);
    client.disconnect();
    const file = join(rig.dir, "a-file");
    await writeFile(file, "no folder");
    const [{ port: taken }, { port: http }] = [await rig.server(), await rig.server("HTTP/1.1 400 Bad Request\r\n\r\n")];
    place = { redis: `unix://:${PASSWORD}@localhost${redis.path}`, taken, http, file };
  });
  after(async () => {
    await rig[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  });

  for (const { what, programs, env, code, says } of NEVER_START) {
    for (const program of programs) {
      test(`${program}, ${what}: exit ${code}`, async () => {
        const { ended } = await rig.start(program.split(" "), { REDIS_URL: place.redis, ...env(place) });
        const end = await ended;
        assert.deepEqual([end.code, end.signal], [code, null], end.text);
        assert.match(end.text, says);
        assert.doesNotMatch(end.text, /^\s+at .*\(?file:/m, "an expected failure needs no stack");
        assert.equal(end.text.includes(PASSWORD), false, "the password is a secret");
      });
    }
  }

  for (const { what, programs, env, says, signal, code } of WAITS) {
    for (const program of programs) {
      test(`${program}, ${what}: ${signal} ends the wait with ${code}`, async () => {
        const { port, connected } = await rig.server();
        const started = await rig.start(program.split(" "), { REDIS_URL: place.redis, ...env(port) });
        if (says === null) await connected;
        else await started.until(says);
        started.kill(signal);
        const end = await started.ended;
        assert.deepEqual([end.code, end.signal], [code, null], end.text);
      });
    }
  }
});
