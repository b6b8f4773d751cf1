export interface ImageType {
  readonly contentType: string;
  readonly extension: string;
}

interface Signature extends ImageType {
  readonly matches: (head: Buffer) => boolean;
}

const at = (head: Buffer, offset: number, text: string): boolean => head.toString("latin1", offset, offset + text.length) === text;

const SIGNATURES: readonly Signature[] = [
  { contentType: "image/png", extension: "png", matches: (head) => at(head, 0, "\x89PNG\r\n\x1a\n") },
  { contentType: "image/jpeg", extension: "jpg", matches: (head) => at(head, 0, "\xFF\xD8\xFF") },
  { contentType: "image/webp", extension: "webp", matches: (head) => at(head, 0, "RIFF") && at(head, 8, "WEBP") },
  { contentType: "image/gif", extension: "gif", matches: (head) => at(head, 0, "GIF8") },
  { contentType: "image/avif", extension: "avif", matches: (head) => at(head, 4, "ftypavi") },
  { contentType: "image/bmp", extension: "bmp", matches: (head) => at(head, 0, "BM") },
  { contentType: "image/tiff", extension: "tiff", matches: (head) => at(head, 0, "II*\0") || at(head, 0, "MM\0*") },
];

/** What a file is by its first 16 bytes, whatever its name says; null when it is none of the image formats that pipelines read. */
export function imageType(head: Buffer): ImageType | null {
  const found = SIGNATURES.find((signature) => signature.matches(head));
  return found === undefined ? null : { contentType: found.contentType, extension: found.extension };
}
