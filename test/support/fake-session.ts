import type { Session, Tensor, TensorInfo } from "../../src/pipelines/backend.ts";
import { HostBinding } from "../../src/runner/host-binding.ts";
import { toHost } from "../../src/runner/host-tensor.ts";

/** A session whose graph is a function of its feeds. */
export function fakeSession(options: {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  readonly run: (feeds: Readonly<Record<string, Tensor>>) => Readonly<Record<string, Tensor>>;
}): Session {
  const { inputs, outputs } = options;
  const run: Session["run"] = (feeds) =>
    Promise.resolve(options.run(Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, toHost(feed, name)]))));
  return {
    inputs,
    outputs,
    run,
    bind: () => new HostBinding({ run, inputs, outputs }, "the fake graph"),
    runMs: 0,
    traffic: { toDevice: 0, toHost: 0 },
    release: () => Promise.resolve(),
  };
}
