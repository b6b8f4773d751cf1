/** The HTTP API for the page. The key stays in this tab. */
const STORAGE = "dryapi-key";

export const savedKey = () => sessionStorage.getItem(STORAGE);
export const saveKey = (key) => sessionStorage.setItem(STORAGE, key);
export const forgetKey = () => sessionStorage.removeItem(STORAGE);
export const clientId = () => (savedKey() ?? "").split("|")[0];

export class Problem extends Error {
  constructor(status, body) {
    super(
      Object.values(body.errors ?? {})
        .flat()
        .join(" ") ||
        body.message ||
        `The server answered ${status}.`,
    );
    this.status = status;
    this.errors = body.errors ?? {};
  }
}

/** JSON in, JSON out; forms as they are. Throws Problem. */
export async function call(method, path, body) {
  const isForm = body instanceof FormData;
  const headers = {
    Authorization: `Bearer ${savedKey()}`,
    ...(body === undefined || isForm ? {} : { "Content-Type": "application/json" }),
  };
  const response = await fetch(path.startsWith("/") ? path : `/api/v1/client/${path}`, {
    method,
    headers,
    body: body === undefined || isForm ? body : JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, answer);
  return answer;
}
