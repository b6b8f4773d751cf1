/** A file that does not hold what its own lengths say. The message reads after the file's name. */
export class OnnxDamage extends Error {
  override readonly name = "OnnxDamage";
}
