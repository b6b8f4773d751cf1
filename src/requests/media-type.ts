import type { FileKind } from "../core/task-fields.ts";
import { imageType, type ImageType } from "./image-type.ts";

export interface MediaType extends ImageType {
  readonly kind: FileKind;
}

const at = (head: Buffer, offset: number, text: string): boolean => head.toString("latin1", offset, offset + text.length) === text;
/** Brand of an ISO base media file. */
const isBrand = (head: Buffer, brands: RegExp): boolean => at(head, 4, "ftyp") && brands.test(head.toString("latin1", 8, 12));
/** Eleven set bits begin every frame; the layer bits tell MPEG layers (MP3) from 0 (AAC in ADTS). */
const isFrame = (head: Buffer, layers: readonly number[]): boolean =>
  head[0] === 0xff && ((head[1] ?? 0) & 0xe0) === 0xe0 && layers.includes(((head[1] ?? 0) >> 1) & 3);

const SIGNATURES: readonly (MediaType & { readonly matches: (head: Buffer) => boolean })[] = [
  { kind: "audio", contentType: "audio/wav", extension: "wav", matches: (head) => at(head, 0, "RIFF") && at(head, 8, "WAVE") },
  { kind: "audio", contentType: "audio/flac", extension: "flac", matches: (head) => at(head, 0, "fLaC") },
  { kind: "audio", contentType: "audio/ogg", extension: "ogg", matches: (head) => at(head, 0, "OggS") },
  { kind: "audio", contentType: "audio/mpeg", extension: "mp3", matches: (head) => at(head, 0, "ID3") || isFrame(head, [1, 2, 3]) },
  { kind: "audio", contentType: "audio/aac", extension: "aac", matches: (head) => isFrame(head, [0]) },
  { kind: "audio", contentType: "audio/mp4", extension: "m4a", matches: (head) => isBrand(head, /^M4[AB] $/) },
  { kind: "video", contentType: "video/quicktime", extension: "mov", matches: (head) => isBrand(head, /^qt {2}$/) },
  { kind: "video", contentType: "video/mp4", extension: "mp4", matches: (head) => isBrand(head, /^(iso.|mp4.|avc1|M4V |dash|3gp.)$/) },
  { kind: "video", contentType: "video/webm", extension: "webm", matches: (head) => at(head, 0, "\x1AE\xDF\xA3") },
  { kind: "video", contentType: "video/x-msvideo", extension: "avi", matches: (head) => at(head, 0, "RIFF") && at(head, 8, "AVI ") },
];

/** What a file is by its first 16 bytes, whatever its name says; null when it is nothing that pipelines read. */
export function mediaType(head: Buffer): MediaType | null {
  const image = imageType(head);
  if (image !== null) return { kind: "image", ...image };
  const found = SIGNATURES.find((signature) => signature.matches(head));
  return found === undefined ? null : { kind: found.kind, contentType: found.contentType, extension: found.extension };
}
