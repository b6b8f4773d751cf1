import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const SCRIPT = join(import.meta.dirname, "../../scripts/swift-s3.sh");

/** A private Swift with s3api: a real S3 server. Starts in about 5 s. */
export interface Swift extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`; the same over `down` and `up`. */
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** An object store URL for a bucket on it; make the bucket first. */
  readonly urlOf: (bucket: string) => string;
  /** Makes a bucket that does not exist yet. */
  makeBucket(bucket: string): Promise<void>;
  /** Ends the servers, keeps the data: connections are refused from then on. */
  down(): Promise<void>;
  /** Starts them again on the same ports and data. */
  up(): Promise<void>;
}

/** @throws Error with one sentence that says what is missing and how to get it */
export async function startSwift(): Promise<Swift> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-swift-"));
  const ports = await freePorts(5);
  const endpoint = `http://127.0.0.1:${ports[0]}`;
  const credentials = { accessKeyId: "test:tester", secretAccessKey: "testing" };
  const up = async (): Promise<void> => {
    await run(SCRIPT, ["start", dir, ...ports.map(String)]).catch((thrown: unknown) => {
      const stderr = thrown instanceof Error && "stderr" in thrown ? String(thrown.stderr).trim() : String(thrown);
      throw new Error(`the S3 test server did not start (scripts/install-test-deps.sh installs it): ${stderr}`, { cause: thrown });
    });
  };
  const down = async (): Promise<void> => {
    await run(SCRIPT, ["stop", dir]);
  };
  const dispose = async (): Promise<void> => {
    await down();
    await rm(dir, { recursive: true, force: true });
  };
  try {
    await up();
  } catch (thrown) {
    await dispose();
    throw thrown;
  }
  return {
    endpoint,
    credentials,
    urlOf: (bucket) => `s3://${bucket}/pre/fix?endpoint=${endpoint}`,
    makeBucket: (bucket) => makeBucket(endpoint, credentials, bucket),
    down,
    up,
    [Symbol.asyncDispose]: dispose,
  };
}

async function makeBucket(endpoint: string, credentials: Swift["credentials"], bucket: string): Promise<void> {
  const { CreateBucketCommand, S3Client } = await import("@aws-sdk/client-s3");
  const client = new S3Client({ endpoint, credentials, region: "us-east-1", forcePathStyle: true });
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
  } finally {
    client.destroy();
  }
}

/** Ports that nobody listens on now. All are held until all are known, so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      server.listen(0, "127.0.0.1");
      await new Promise((resolve) => server.once("listening", resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
