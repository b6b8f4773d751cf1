import type { LockHolder } from "../lib/process-lock.ts";
import { steadyNow } from "../lib/steady-clock.ts";
import type { PullNews } from "../models/pull/pull-model.ts";
import { bar, LiveLine } from "./live-line.ts";
import { formatBytes, formatMs, type Terminal } from "./terminal.ts";

/** The rate is that of the last so many ms. */
const WINDOW_MS = 5_000;
/** Without a screen: a line as often. */
const LINE_EVERY_MS = 5_000;

/** How far a pull is. Pure: times are given. */
export class PullMeter {
  #total: number | null = null;
  /** Bytes of files that are whole, and of the one that comes. */
  #whole = 0;
  #current = 0;
  #currentSize = 0;
  readonly #seen: { readonly at: number; readonly bytes: number }[] = [];

  planned(totalBytes: number | null, presentBytes: number): void {
    this.#total = totalBytes;
    this.#whole = presentBytes;
  }

  bytes(done: number, size: number, at: number): void {
    this.#current = done;
    this.#currentSize = size;
    this.#seen.push({ at, bytes: this.done });
    while (this.#seen.length > 2 && (this.#seen[0]?.at ?? at) < at - WINDOW_MS) this.#seen.shift();
  }

  file(sizeBytes: number): void {
    this.#whole += sizeBytes;
    this.#current = 0;
    this.#currentSize = 0;
  }

  get done(): number {
    return this.#whole + this.#current;
  }

  /** Of the file that comes, where the sum of all is not known. */
  get total(): number {
    return this.#total ?? this.#whole + this.#currentSize;
  }

  /** Bytes a second; 0 while nothing is known. */
  rate(): number {
    const [first] = this.#seen;
    const last = this.#seen.at(-1);
    if (first === undefined || last === undefined || last.at <= first.at) return 0;
    return Math.max(0, ((last.bytes - first.bytes) / (last.at - first.at)) * 1000);
  }

  /** `43 %  1.2 GiB of 2.8 GiB  35 MiB/s  45 s left` */
  text(): string {
    const { done, total } = this;
    const rate = this.rate();
    const percent = Math.floor(this.share * 100);
    const left = rate > 0 && total > done ? `  ${formatMs(((total - done) / rate) * 1000)} left` : "";
    return `${String(percent).padStart(3)} %  ${formatBytes(done)} of ${formatBytes(total)}${rate > 0 ? `  ${formatBytes(rate)}/s` : ""}${left}`;
  }

  /** 0 to 1. */
  get share(): number {
    return this.total === 0 ? 1 : this.done / this.total;
  }
}

export interface PullProgress extends Disposable {
  readonly news: (news: PullNews) => void;
}

/** A bar on a screen, plain lines elsewhere, one JSON object a line with `json`. */
export function showPull(
  terminal: Terminal,
  { json, now = steadyNow }: { readonly json: boolean; readonly now?: () => number },
): PullProgress {
  const meter = new PullMeter();
  let saidAt = -Infinity;
  const live = new LiveLine(terminal);
  const draw = (): void => {
    const at = now();
    if (at - saidAt < (terminal.isLive ? 100 : LINE_EVERY_MS)) return;
    saidAt = at;
    if (!terminal.isLive) return terminal.err(meter.text());
    live.draw(`${bar(meter.share)} ${meter.text()}`);
  };
  const news = (each: PullNews): void => {
    if (each.type === "planned") meter.planned(each.totalBytes, each.presentBytes);
    else if (each.type === "bytes") meter.bytes(each.done, each.size, now());
    else if (each.type === "file") meter.file(each.sizeBytes);
    if (json) {
      // Bytes come by the thousand: as often as plain lines.
      const isDue = each.type !== "bytes" || now() - saidAt >= 1_000;
      if (each.type === "bytes" && isDue) saidAt = now();
      if (isDue) terminal.out(JSON.stringify({ ...each, done_bytes: meter.done, total_bytes: meter.total }));
      return;
    }
    if (each.type === "bytes") draw();
    else {
      live.clear();
      terminal.err(describe(each));
    }
  };
  return { news, [Symbol.dispose]: () => live.clear() };
}

function describe(news: Exclude<PullNews, { readonly type: "bytes" }>): string {
  switch (news.type) {
    case "waiting":
      return waitingFor(news.other);
    case "planned": {
      const size = news.totalBytes === null ? "" : `, ${formatBytes(news.totalBytes)}`;
      return `${news.source}: ${news.files} files${size}${news.presentBytes > 0 ? `, ${formatBytes(news.presentBytes)} of them are here` : ""}`;
    }
    case "file":
      return `ok    ${news.file}  ${formatBytes(news.sizeBytes)}  sha256 ${news.sha256}`;
    case "trouble":
      return `note  ${news.text}`;
  }
}

/** Of a lock of pulls. */
export function waitingFor({ pid, does }: LockHolder): string {
  return `waiting for process ${pid ?? "of unknown number"}, which ${does ?? "changes the same folder"}`;
}
