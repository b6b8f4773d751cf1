import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { WAIT_MS, type TestSystem } from "./system.ts";

const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");

/** A real `dryapi courier` process on a system's Redis and store. */
export interface CourierProcess extends AsyncDisposable {
  readonly lines: readonly Readonly<Record<string, unknown>>[];
  kill9(): Promise<void>;
}

export async function startCourier(
  system: TestSystem,
  env: Readonly<Record<string, string>> = {},
  cli: string = CLI,
): Promise<CourierProcess> {
  const child = spawn(process.execPath, [cli, "courier"], {
    env: { ...system.env, DRYAPI_PUBLIC_URL: "https://api.example.org", DRYAPI_EGRESS_ALLOW: "127.0.0.0/8", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: Record<string, unknown>[] = [];
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on("line", (text) => {
    const line = JSON.parse(text) as Record<string, unknown>;
    lines.push(line);
    if (line["msg"] === "courier ready") resolve();
  });
  void exited.then((code) => reject(new Error(`the courier ended (code ${code}): ${stderr}${JSON.stringify(lines.slice(-5))}`)));
  const timer = setTimeout(() => reject(new Error(`the courier was not ready within ${WAIT_MS} ms`)), WAIT_MS);
  const kill9 = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
  };
  try {
    await ready;
    return { lines, kill9, [Symbol.asyncDispose]: kill9 };
  } catch (thrown) {
    await kill9();
    throw thrown;
  } finally {
    clearTimeout(timer);
  }
}
