/** What a call of onnxruntime answered instead of its result. */
export class OrtFailure extends Error {
  /** OrtErrorCode of the header: 1 fail, 2 invalid argument, 3 no such file, 6 runtime exception, 7 invalid protobuf, 9 not implemented ... */
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.name = "OrtFailure";
    this.code = code;
  }
}
