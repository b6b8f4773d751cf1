/** All operations with random data, of `scripts/verify schemathesis`. Prints the report; exit 1 when a check failed. */
import { runSchemathesis } from "../test/clients/schemathesis.ts";

const LIFE_MS = 3_600_000;

process.stdout.write(await runSchemathesis(["--max-examples", "100", "--generation-database", "none"], { lifeMs: LIFE_MS }));
