/** A file of a request, on this machine's disk until the response has gone. */
export interface Upload {
  /** The form's field name, without `[]`. */
  readonly field: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** The whole request. Single kinds of files have lower limits of their own. */
export const MAX_REQUEST_BYTES: number = 75 * 1024 * 1024;
/** What is held in memory gets less: urlencoded bodies, the fields of a form, JSON without the files in it. */
export const MAX_PLAIN_BYTES: number = 4 * 1024 * 1024;
export const MAX_FILE_BYTES: number = 50 * 1024 * 1024;
export const MAX_FILES = 16;
