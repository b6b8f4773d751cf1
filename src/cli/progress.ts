import { steadyNow } from "../lib/steady-clock.ts";
import type { JobEvent } from "../protocol/event.ts";
import { bar, LiveLine } from "./live-line.ts";
import { formatMs, type Terminal } from "./terminal.ts";

/** Shows how a job goes on: a bar that redraws itself on a screen, plain lines elsewhere, nothing with --json. */
export interface Progress extends Disposable {
  note(text: string): void;
  event(event: JobEvent): void;
}

/** Without a screen: a line for each new stage and each such part of the way. */
const LINE_STEP_PERCENT = 20;

export function createProgress(terminal: Terminal, options: { readonly quiet: boolean; readonly now?: () => number }): Progress {
  if (options.quiet) return { note: () => undefined, event: () => undefined, [Symbol.dispose]: () => undefined };
  const now = options.now ?? steadyNow;
  return terminal.isLive ? liveProgress(terminal, now) : plainProgress(terminal, now);
}

function plainProgress(terminal: Terminal, now: () => number): Progress {
  const startedAt = now();
  let said = "";
  return {
    note: (text) => terminal.err(text),
    event: (event) => {
      const key = `${event.type === "requeued" ? "requeued" : (event.stage ?? event.type)} ${Math.floor(event.progress / LINE_STEP_PERCENT)}`;
      if (event.type === "preview" || key === said) return;
      said = key;
      terminal.err(`${describe(event)} (${formatMs(now() - startedAt)})`);
    },
    [Symbol.dispose]: () => undefined,
  };
}

function liveProgress(terminal: Terminal, now: () => number): Progress {
  const startedAt = now();
  let label = "waiting";
  let percent = 0;
  const live = new LiveLine(terminal);
  const draw = (): void => {
    live.draw(`${bar(percent / 100)} ${String(Math.round(percent)).padStart(3)} %  ${label}  ${formatMs(now() - startedAt)}`);
  };
  const timer = setInterval(draw, 200);
  timer.unref();
  return {
    note: (text) => {
      live.clear();
      terminal.err(text);
    },
    event: (event) => {
      ({ progress: percent } = event);
      label = describe(event);
      draw();
    },
    [Symbol.dispose]: () => {
      clearInterval(timer);
      live.clear();
    },
  };
}

function describe(event: JobEvent): string {
  if (event.type === "requeued") return "back in the queue";
  if (event.type === "done" || event.type === "error")
    return event.type === "done" ? "done" : `failed: ${event.errorMessage ?? event.errorCode ?? "unknown"}`;
  const step = event.step !== undefined && event.steps !== undefined && event.steps > 0 ? ` ${event.step}/${event.steps}` : "";
  return `${event.stage ?? "starting"}${step}${step === "" ? "" : ` ${Math.round(event.progress)} %`}`;
}
