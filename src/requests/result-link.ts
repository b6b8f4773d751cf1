import { createHmac, timingSafeEqual } from "node:crypto";

export interface ResultLink {
  readonly id: string;
  /** Name of the file in the result. */
  readonly file: string;
  /** Unix seconds. */
  readonly expiresAt: number;
}

/** `<base>/r/<id>/<file>?exp=...&sig=...`: whoever has it may read that one file until then, without a key. */
export function signResultLink(base: string, secret: string, link: ResultLink): string {
  return `${base}/r/${link.id}/${encodeURIComponent(link.file)}?exp=${link.expiresAt}&sig=${signature(secret, link)}`;
}

export function isResultLink(secret: string, link: ResultLink & { readonly signature: string }, nowMs: number): boolean {
  const wanted = Buffer.from(signature(secret, link));
  const given = Buffer.from(link.signature);
  return given.length === wanted.length && timingSafeEqual(given, wanted) && nowMs < link.expiresAt * 1_000;
}

function signature(secret: string, { id, file, expiresAt }: ResultLink): string {
  return createHmac("sha256", secret).update(`${id}\n${file}\n${expiresAt}`).digest("hex");
}
