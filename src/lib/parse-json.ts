/** Null for what is no JSON: a schema then refuses it like any other wrong value. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
