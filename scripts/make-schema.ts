/** Writes models/schema.json, the JSON Schema of model.json for editors, from the schema that the program itself checks with. */
import { writeAtomic } from "../src/lib/write-atomic.ts";
import { manifestJsonSchema } from "../src/protocol/manifest-json-schema.ts";

const path = new URL("../models/schema.json", import.meta.url).pathname;
await writeAtomic(path, manifestJsonSchema());
process.stdout.write(`${path}: written\n`);
