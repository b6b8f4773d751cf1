#!/usr/bin/env node
import { leave } from "./cli/leave.ts";
import { processSignals } from "./cli/process-signals.ts";

// Before anything else is loaded: signals work from the first moment on.
processSignals();
const { main } = await import("./cli/main.ts");
await leave(await main(process.argv.slice(2)));
