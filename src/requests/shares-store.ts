import { putBytes } from "../storage/check-store.ts";
import type { CallOptions, ObjectStore } from "../storage/object-store.ts";

const FOLDER = "systems/";

/**
 * Marks the store as this system's (`systems/<id>`) and tells whether another system has its mark there too. Then nobody can tell an object
 * whose request is long over from one of the other system. A mark of a system that is no more is for a person to delete.
 */
export async function sharesStore(store: ObjectStore, systemId: string, call: CallOptions): Promise<boolean> {
  const own = `${FOLDER}${systemId}`;
  const marks: string[] = [];
  for await (const { key } of store.list(FOLDER, call)) marks.push(key);
  if (!marks.includes(own)) await putBytes(store, own, Buffer.from("This store is swept by a dryapi system.\n"), call);
  return marks.some((key) => key !== own);
}
