import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { FastifyRequest } from "fastify";
import { until } from "../../../test/support/redis-rig.ts";
import { readBody } from "./read-body.ts";

test("a client that left while the folder of its files was made leaves no folder behind", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-read-body-"));
  const before = process.env["TMPDIR"];
  process.env["TMPDIR"] = dir;
  t.after(async () => {
    if (before === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = before;
    await rm(dir, { recursive: true });
  });
  const socket = new Socket();
  const parts = (): never => assert.fail("a request that nobody sends any more is not read");
  const request = {
    isMultipart: () => true,
    headers: {},
    raw: { destroyed: true, readableEnded: false, socket },
    parts,
  } as unknown as FastifyRequest;
  await assert.rejects(readBody(request), { status: 400 });
  await until("the folder to go", async () => (await readdir(dir)).length === 0);
  assert.equal(socket.listenerCount("close"), 0, "the connection is not watched any more");
});
