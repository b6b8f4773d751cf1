import { STATUS_CODES, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { CORS_HEADERS } from "./cors.ts";

interface RawProblem {
  readonly status: number;
  readonly message: string;
}

const NO_HTTP: RawProblem = { status: 400, message: "The request is not valid HTTP." };

/** As Node tells it: with the bytes that its parser could not read. */
export interface ClientError {
  readonly code?: string;
  readonly rawPacket?: unknown;
}

/** What is wrong with a request that could not be read as HTTP, by the codes of Node and its parser. */
export function rawProblem({ code = "", rawPacket }: ClientError): RawProblem {
  switch (code) {
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return { status: 408, message: "The request did not come in time." };
    case "HPE_HEADER_OVERFLOW":
      return isInRequestLine(rawPacket)
        ? { status: 414, message: "The request's address is too long." }
        : { status: 431, message: "The request's header fields are too large." };
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return { status: 413, message: "The chunk extensions of the request body are too large." };
    case "HPE_INVALID_VERSION":
    case "HPE_PAUSED_H2_UPGRADE":
      return { status: 505, message: "Only HTTP/1.1 and HTTP/1.0 are spoken here." };
    case "HPE_INVALID_METHOD":
      // Anything but a method may be no HTTP at all.
      return /^[A-Za-z-]{1,32} \S+ HTTP\/1/.test(headOf(rawPacket)) ? { status: 501, message: "The method is not implemented." } : NO_HTTP;
    default:
      return NO_HTTP;
  }
}

/** The parser counts the request line as a header field. */
function isInRequestLine(packet: unknown): boolean {
  return /^[A-Z]{3,12} [^\r\n]*$/.test(headOf(packet));
}

function headOf(packet: unknown): string {
  return Buffer.isBuffer(packet) ? packet.toString("latin1", 0, 8_192) : "";
}

const LINGER_MS = 2_000;
const FIXED = [...Object.entries(CORS_HEADERS), ["X-Content-Type-Options", "nosniff"], ["Connection", "close"]] as const;

/** Listener of `clientError`: the answer to a request that never became one, in the shape that all answers have. The connection ends with it. */
export function answerRaw(error: ClientError, socket: Socket): void {
  // An answer that has begun cannot be taken back.
  const { _httpMessage: begun } = socket as { readonly _httpMessage?: ServerResponse | null };
  if (error.code === "ECONNRESET" || !socket.writable || begun?.headersSent === true) {
    socket.destroy();
    return;
  }
  const { status, message } = rawProblem(error);
  const body = JSON.stringify({ message });
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`,
    `Date: ${new Date().toUTCString()}`,
    "Content-Type: application/json; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${crypto.randomUUID()}`,
    ...FIXED.map(([name, value]) => `${name}: ${value}`),
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
  // What still comes is dropped, or the peer would see a reset before it has read the answer.
  socket.resume();
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}

/** Listener of `checkExpectation`: an expectation that nobody knows (RFC 9110, 10.1.1). */
export function answerExpectation(_request: IncomingMessage, response: ServerResponse): void {
  const body = JSON.stringify({ message: "The only expectation that is met is 100-continue." });
  response.writeHead(417, {
    "Content-Type": "application/json; charset=utf-8",
    "Content-Length": Buffer.byteLength(body),
    "X-Request-Id": crypto.randomUUID(),
    ...Object.fromEntries(FIXED),
  });
  response.end(body);
}
