import { setTimeout as wait } from "node:timers/promises";
import sharp from "sharp";
import { WAIT_MS } from "./system.ts";

/** The address that the shipped gateway.env promises to clients; here nothing stands in front of the gateway. */
const PROMISED = "https://api.example.org";

export interface JobEnd {
  readonly id: string;
  readonly status: string;
  /** Media type of the result as the gateway hands it out; null when there is none. */
  readonly resultType: string | null;
}

export interface JobRequest {
  readonly task: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** A job whose input the gateway must put into the store, and whose output the worker must. */
export async function pictureJob(): Promise<JobRequest> {
  const picture = await sharp({ create: { width: 64, height: 64, channels: 3, background: "teal" } })
    .png()
    .toBuffer();
  const image = `data:image/png;base64,${picture.toString("base64")}`;
  return { task: "img2img", body: { model: "tiny-flux-dev", prompt: "a lighthouse", image, steps: 2 } };
}

/** Sends a request as a client does. @throws Error when it is refused */
export async function submitJob(api: string, key: string, { task, body }: JobRequest): Promise<string> {
  const response = await fetch(`${api}/api/v1/client/${task}`, { method: "POST", headers: headersOf(key), body: JSON.stringify(body) });
  const answer = (await response.json()) as { data?: { request_id: string } };
  if (answer.data === undefined) throw new Error(`the request was refused with ${response.status}: ${JSON.stringify(answer)}`);
  return answer.data.request_id;
}

/** What the gateway says of a request. */
export async function jobStatus(api: string, key: string, id: string): Promise<{ status: string; result_url: string | null }> {
  const response = await fetch(`${api}/api/v1/client/request-status/${id}`, { headers: headersOf(key) });
  return ((await response.json()) as { data: { status: string; result_url: string | null } }).data;
}

/** Waits until it has ended, and fetches its result. */
export async function jobEnd(api: string, key: string, id: string): Promise<JobEnd> {
  for (const until = performance.now() + WAIT_MS; performance.now() < until;) {
    const data = await jobStatus(api, key, id);
    if (data.status === "error") return { id, status: JSON.stringify(data), resultType: null };
    if (data.status === "done" && data.result_url !== null) {
      const result = await fetch(data.result_url.replace(PROMISED, api));
      return { id, status: "done", resultType: result.headers.get("content-type") };
    }
    await wait(200);
  }
  throw new Error(`request ${id} has not ended after ${WAIT_MS} ms`);
}

function headersOf(key: string): Record<string, string> {
  return { authorization: `Bearer ${key}`, "content-type": "application/json" };
}
