/** `node range-server.ts FILE`: serves one file, in ranges, on a free port of this machine, whose number is its first line. */
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

const [path = ""] = process.argv.slice(2);
const { size } = statSync(path);
const server = createServer((request, response) => {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  const [start, end] = range === null ? [0, size] : [Number(range[1]), Math.min(Number(range[2]) + 1, size)];
  response.writeHead(range === null ? 200 : 206, {
    etag: `"${size}"`,
    "content-length": end - start,
    ...(range !== null && { "content-range": `bytes ${start}-${end - 1}/${size}` }),
  });
  createReadStream(path, { start, end: end - 1, highWaterMark: 2 ** 20 }).pipe(response);
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
