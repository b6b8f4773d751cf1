import { createHash, randomUUID } from "node:crypto";
import { open, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { tooLarge } from "../http/errors.ts";
import { DataUriDecoder } from "./data-uri.ts";
import { MAX_FILE_BYTES, type Upload } from "./upload.ts";

/** A data URI that becomes a file while it comes in. */
export class DataUriFile {
  readonly #field: string;
  readonly #folder: () => Promise<string>;
  readonly #decoder = new DataUriDecoder();
  readonly #hash = createHash("sha256");
  #path = "";
  #file: FileHandle | null = null;
  #sizeBytes = 0;

  constructor(field: string, folder: () => Promise<string>) {
    this.#field = field;
    this.#folder = folder;
  }

  /** @throws HttpProblem 413 for more than a file may have */
  async write(text: string): Promise<void> {
    await this.#append(this.#decoder.write(text));
  }

  /** The file, null for an empty one; else what is wrong with the URI. */
  async end(): Promise<Upload | null | { readonly problem: string }> {
    await this.#append(this.#decoder.end());
    await this.close();
    const { problem } = this.#decoder;
    if (problem !== null) return { problem };
    if (this.#path === "") return null;
    return { field: this.#field, path: this.#path, sizeBytes: this.#sizeBytes, sha256: this.#hash.digest("hex") };
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = null;
  }

  async #append(bytes: Buffer): Promise<void> {
    if (bytes.length === 0) return;
    this.#sizeBytes += bytes.length;
    if (this.#sizeBytes > MAX_FILE_BYTES) throw tooLarge(`The ${this.#field} file is larger than 50 MB.`);
    if (this.#file === null) {
      this.#path = join(await this.#folder(), randomUUID());
      this.#file = await open(this.#path, "wx", 0o600);
    }
    this.#hash.update(bytes);
    await this.#file.writeFile(bytes);
  }
}

/** A data URI that is here already. @throws HttpProblem 413 */
export async function saveDataUri(
  field: string,
  text: string,
  folder: () => Promise<string>,
): Promise<Upload | null | { readonly problem: string }> {
  const file = new DataUriFile(field, folder);
  try {
    await file.write(text);
    return await file.end();
  } finally {
    await file.close();
  }
}
