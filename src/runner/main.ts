import { loadModel, proveDevice, readRuntime } from "./load-model.ts";
import { runRunner } from "./run-runner.ts";

// Entry of a runner process. Nothing native is loaded before `hello` is out.
runRunner({ load: loadModel, prove: proveDevice, runtime: readRuntime });
