import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { addClient, ApiClient, endOf, startGateway } from "../support/gateway.ts";
import { startSystem } from "../support/system.ts";

const run = promisify(execFile);
/** openapi-typescript needs the API of TypeScript 5: scripts/install-test-deps.sh installs both, beside our own. */
const MODULES = join(import.meta.dirname, "../../.cache/typescript-client/node_modules");
const PROGRAM = join(import.meta.dirname, "typescript/use-api.mts");

interface Told {
  readonly id: string;
  readonly refused: Readonly<Record<string, readonly string[]>>;
  readonly models: readonly string[];
  readonly price: number;
  readonly listed: readonly string[];
  readonly cancelled: string;
  readonly uploaded: string;
  readonly status: string;
}

test("a client that openapi-typescript makes compiles strictly and uses the API", async (t) => {
  await using system = await startSystem({ DRYAPI_MODELS: "tiny-flux-schnell,tiny-flux-dev" });
  await using gateway = await startGateway(system);
  const dir = join(system.dir, "client");
  await mkdir(dir);
  await symlink(MODULES, join(dir, "node_modules"));
  t.after(() => rm(join(dir, "node_modules"), { force: true }));
  await run(join(MODULES, ".bin/openapi-typescript"), [`${gateway.url}/openapi.json`, "--output", join(dir, "api.d.ts")]);
  await cp(PROGRAM, join(dir, "use-api.mts"));
  const strict = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--noEmit", "--allowImportingTsExtensions"];
  const target = ["--target", "es2023", "--module", "nodenext", "--lib", "es2023,dom,dom.iterable"];
  await run(join(MODULES, ".bin/tsc"), [...strict, ...target, join(dir, "use-api.mts")]).catch((thrown: { readonly stdout: string }) =>
    assert.fail(thrown.stdout),
  );

  const key = await addClient(system);
  const { stdout } = await run(process.execPath, [join(dir, "use-api.mts"), gateway.url, key]);
  const told = JSON.parse(stdout) as Told;
  assert.deepEqual(told.refused, { prompt: ["The prompt field is required."] });
  assert.deepEqual(told.models.toSorted(), ["tiny-flux-dev", "tiny-flux-schnell"]);
  assert.equal(told.price, 0);
  assert.ok(told.listed.includes(told.id));
  assert.equal(told.status, "pending");
  assert.equal(told.cancelled, "error");
  const api = new ApiClient(gateway.url, key);
  await using worker = await worksIn(system);
  assert.equal((await endOf(system, api, told.uploaded))["status"], "done", JSON.stringify(worker.lines.slice(-3)));
});

/** A worker that is stopped at the end of the test. */
async function worksIn(
  system: Awaited<ReturnType<typeof startSystem>>,
): Promise<Awaited<ReturnType<typeof system.startWorker>> & AsyncDisposable> {
  const worker = await system.startWorker();
  return { ...worker, [Symbol.asyncDispose]: () => worker.kill9() };
}
