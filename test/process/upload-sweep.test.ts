import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, utimes } from "node:fs/promises";
import { request, type ClientRequest } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { sweepUploads } from "../../src/gateway/body/upload-folders.ts";
import { addClient, ApiClient, startGateway } from "../support/gateway.ts";
import { startSystem } from "../support/system.ts";

const PART = '--B\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\nhalf a picture';

test("uploads of a gateway that was killed go when another starts, and those of one that lives stay", async () => {
  await using system = await startSystem();
  const uploads = join(system.dir, "uploads");
  await mkdir(uploads);
  const key = await addClient(system, { ratePerMinute: 0 });
  const env = { TMPDIR: uploads };
  const folders = async (): Promise<readonly string[]> => (await readdir(uploads)).toSorted();
  const begin = async (url: string, count: number): Promise<ClientRequest> => {
    const headers = { Authorization: `Bearer ${key}`, "Content-Type": "multipart/form-data; boundary=B" };
    const sent = request(`${url}/api/v1/client/img2img`, { method: "POST", headers });
    sent.on("error", () => undefined);
    sent.write(PART);
    await system.until("the beginning of the upload", async () => ((await folders()).length === count ? true : undefined));
    return sent;
  };
  const killed = await startGateway(system, env);
  await begin(killed.url, 1);
  await using alive = await startGateway(system, env);
  const [first] = await folders();
  const open = await begin(alive.url, 2);
  const own = (await folders()).filter((name) => name !== first);
  await killed.kill9();
  // Older versions name no owner: theirs go by their age alone.
  const fresh = await mkdtemp(join(uploads, "dryapi-upload-"));
  const old = await mkdtemp(join(uploads, "dryapi-upload-"));
  await utimes(old, new Date(0), new Date(0));
  await using next = await startGateway(system, env);
  await system.until("the sweep", async () => ((await folders()).length === 2 ? true : undefined));
  assert.deepEqual(await folders(), [...own, fresh.slice(uploads.length + 1)].toSorted());
  assert.equal((await new ApiClient(next.url, key).get("/healthz")).status, 200);
  // The upload under way was not disturbed: it is answered.
  open.end("\r\n--B--\r\n");
  const [answer] = (await once(open, "response")) as [{ readonly statusCode: number }];
  assert.equal(answer.statusCode, 422);
  assert.equal(await sweepUploads(uploads, Date.now() + 7_200_000), 1, "the last one is old by then");
});
