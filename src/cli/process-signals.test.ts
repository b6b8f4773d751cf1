import assert from "node:assert/strict";
import { test } from "node:test";
import { ProcessSignals, type ProcessSignalsOptions } from "./process-signals.ts";

/** A process's signals, its clock, and how it was ended. */
function rig(options: Pick<ProcessSignalsOptions, "hasTerminal"> = {}) {
  const listeners = new Map<string, (signal: NodeJS.Signals) => void>();
  const exits: number[] = [];
  const clock = { now: 0 };
  const signals = new ProcessSignals({
    source: { on: (signal, listener) => listeners.set(signal, listener) },
    exit: (code) => exits.push(code),
    now: () => clock.now,
    hasTerminal: options.hasTerminal ?? false,
  });
  const send = (signal: NodeJS.Signals, afterMs = 1_000): void => {
    clock.now += afterMs;
    listeners.get(signal)?.(signal);
  };
  return { signals, exits, send, hears: (signal: NodeJS.Signals) => listeners.has(signal) };
}

test("while no command asks, the first signal ends the process with 128 + its number", () => {
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    const { exits, send, signals } = rig();
    send(signal);
    assert.deepEqual(exits, [code]);
    assert.equal(signals.exitCode, code);
  }
});

test("a command with patience hears the first and the second; the third ends the process", () => {
  const { signals, exits, send } = rig();
  const asked = signals.ask({ patience: 2 });
  send("SIGTERM");
  assert.deepEqual([asked.first.aborted, asked.second.aborted, exits], [true, false, []]);
  send("SIGINT");
  assert.deepEqual([asked.second.aborted, exits], [true, []]);
  send("SIGINT");
  assert.deepEqual(exits, [130]);
  assert.equal(signals.exitCode, 143, "the first one tells why it ended");
});

test("a command with less patience: the second ends the process", () => {
  const { signals, exits, send } = rig();
  const asked = signals.ask({ patience: 1 });
  send("SIGINT");
  assert.deepEqual([asked.first.aborted, exits], [true, []]);
  send("SIGINT");
  assert.deepEqual(exits, [130]);
});

test("the echo of a signal, from npm or the launcher, is no second one", () => {
  const { signals, exits, send } = rig();
  const asked = signals.ask({ patience: 1 });
  send("SIGINT");
  send("SIGINT", 300);
  assert.deepEqual([asked.first.aborted, exits], [true, []]);
  send("SIGINT", 301);
  assert.deepEqual(exits, [130]);
});

test("once the command has ended the next signal ends the process at once", () => {
  const { signals, exits, send } = rig();
  {
    using asked = signals.ask({ patience: 2 });
    assert.equal(asked.first.aborted, false);
  }
  send("SIGTERM");
  assert.deepEqual(exits, [143]);
});

test("SIGHUP without a terminal asks for a reload, and is left alone where nobody reloads", () => {
  const { signals, exits, send, hears } = rig();
  const asked = signals.ask({ patience: 2 });
  assert.equal(hears("SIGHUP"), false, "its default, the end of the process, holds");
  let reloads = 0;
  asked.onReload(() => (reloads += 1));
  send("SIGHUP");
  send("SIGHUP");
  assert.deepEqual([reloads, asked.first.aborted, exits], [2, false, []]);
});

test("SIGHUP of a terminal that was closed asks for the end", () => {
  const { signals, send } = rig({ hasTerminal: true });
  const asked = signals.ask({ patience: 2 });
  asked.onReload(() => assert.fail("nobody asked for a reload"));
  send("SIGHUP");
  assert.equal(asked.first.aborted, true);
});
