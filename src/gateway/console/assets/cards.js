import { call, here, Problem } from "./api.js";
import { element, excerpt, find, labelOf, when } from "./dom.js";
import { draftCards, dropCard, keepCard } from "./drafts.js";

const POLL_MS = 1_000;
/** Other programs of the same client may submit thousands. */
const MAX_CARDS = 24;
const TEXTS = ["prompt", "text", "caption", "input", "audio_url", "video_url"];

const cards = new Map();
let ended = () => {};
/** Calls when a request that was followed has ended. */
export const onEnd = (handler) => (ended = handler);
const nothing = find("live").innerText;

/** What a request is known by: the text that was asked with. */
export function titleOf({ task, model, params }) {
  const text = TEXTS.map((name) => params?.[name])
    .flat()
    .find((value) => typeof value === "string" && value.trim() !== "");
  return text === undefined ? `${task} with ${model}` : excerpt(text, 200);
}

/** Cards after a reload: those that were open in this tab, and what has not ended. `rows`: the newest page of the list. */
export function restoreCards(rows) {
  const unfinished = rows.filter(({ status }) => status === "pending" || status === "processing").map(({ request_id: id }) => id);
  const known = draftCards();
  const byId = new Map(rows.map((row) => [row.request_id, row]));
  for (const id of [...known, ...unfinished.toReversed().filter((each) => !known.includes(each))])
    follow(id, byId.has(id) ? titleOf(byId.get(id)) : `Request ${id.slice(0, 8)}`);
}

/** A card for a request that is followed to its end. False when there is no room for another one. */
export function follow(id, title) {
  if (cards.has(id)) return true;
  if (!makeRoom()) return false;
  const titleId = `title-${id}`;
  const heading = element("h3", { id: titleId, tabIndex: -1 }, [title]);
  const bar = element("progress", { max: 100, value: 0, ariaLabel: "Progress" });
  const state = element("p", { className: "state pending" }, ["Waiting"]);
  const view = element("div");
  const facts = element("div");
  const stop = element("button", { type: "button", className: "plain", onclick: () => void cancel(id) }, ["Cancel"]);
  const actions = element("p", { className: "buttons" }, [stop]);
  const node = element("article", { id: `request-${id}` }, [heading, state, bar, view, facts, actions]);
  node.setAttribute("aria-labelledby", titleId);
  if (cards.size === 0) find("live").replaceChildren();
  find("live").prepend(node);
  cards.set(id, { node, heading, bar, state, view, facts, stop, actions, title, ended: false, wasUnfinished: false });
  keepCard(id);
  void poll(id);
  return true;
}

/** The oldest card that has ended makes room. */
function makeRoom() {
  if (cards.size < MAX_CARDS) return true;
  const [oldest] = [...cards].find(([, card]) => card.ended) ?? [];
  if (oldest !== undefined) remove(oldest);
  return oldest !== undefined;
}

function remove(id) {
  cards.get(id)?.node.remove();
  cards.delete(id);
  dropCard(id);
  if (cards.size === 0) find("live").replaceChildren(element("p", { className: "quiet" }, [nothing]));
}

/** Brings a card into sight, and the keyboard to it where that is wanted. */
export function showCard(id, withFocus) {
  const card = cards.get(id);
  if (card === undefined) return;
  if (withFocus) card.heading.focus({ preventScroll: true });
  card.node.scrollIntoView({ block: withFocus ? "start" : "nearest" });
}

/** An update of the socket; of requests that other tabs or programs submitted, too. What ended unseen is in the history alone. */
export function update({ request_id: id, status, progress, preview }) {
  const hasEnded = status === "done" || status === "error";
  if (!cards.has(id) && hasEnded) return ended();
  if (!follow(id, `Request ${id.slice(0, 8)}`)) return;
  const card = cards.get(id);
  if (card.ended) return;
  if (hasEnded) return void poll(id);
  show(card, "processing", Number(progress), preview);
}

async function poll(id) {
  const card = cards.get(id);
  while (!card.ended && cards.get(id) === card) {
    try {
      const { data } = await call("GET", `request-status/${id}`);
      describe(card, data);
      if (data.status === "done" || data.status === "error") return end(id, card, data);
      show(card, data.status, data.progress, data.preview, data);
    } catch (thrown) {
      // Past its retention, or never there; or the key is gone.
      if (thrown instanceof Problem && thrown.status === 404) return remove(id);
      if (thrown instanceof Problem && thrown.status === 401) return;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function show(card, status, progress, preview, data) {
  card.wasUnfinished = true;
  const words =
    status === "processing"
      ? `Working, ${Math.round(progress)} %`
      : `Waiting${data?.queue_position ? `, place ${data.queue_position}` : ""}${data?.waiting_message ? `. ${data.waiting_message}` : ""}`;
  if (card.state.textContent !== words) card.state.textContent = words;
  card.state.className = `state ${status}`;
  card.bar.value = progress;
  if (!preview) return;
  const image = card.view.querySelector("img.preview") ?? element("img", { className: "preview", alt: `Preview of ${card.title}` });
  image.src = preview;
  if (!image.isConnected) card.view.replaceChildren(image);
}

/** What was asked for: short values as facts, texts in full behind a click. */
function describe(card, data) {
  // Nothing else of it changes.
  if (card.seed === data.seed) return;
  card.seed = data.seed;
  card.title = titleOf(data);
  card.heading.textContent = card.title;
  const { params } = data;
  const values = Object.entries({ ...params, ...(data.seed === null ? {} : { seed: data.seed }) });
  const long = values.filter(
    ([name, value]) => typeof value === "object" || (typeof value === "string" && (TEXTS.includes(name) || value.length > 40)),
  );
  const size = params.width && params.height ? [["Size", `${params.width} × ${params.height}`]] : [];
  const short = values
    .filter((entry) => !long.includes(entry) && !(size.length > 0 && ["width", "height"].includes(entry[0])))
    .map(([name, value]) => [labelOf(name), value === true ? "yes" : value === false ? "no" : String(value)]);
  const asked = [["Model", data.model], ["Task", data.task], ...size, ...short, ["Asked", when(data.created_at)]];
  const texts = long.map(([name, value]) => [labelOf(name), typeof value === "string" ? value : JSON.stringify(value, null, 1)]);
  const isShort = texts.length === 1 && texts[0][1] === card.title;
  card.facts.replaceChildren(
    pairs("facts", asked),
    ...(texts.length === 0 || isShort
      ? []
      : [
          element("details", {}, [
            element("summary", {}, ["Whole text"]),
            pairs("texts", texts),
            ...(data.params_truncated ? [element("p", { className: "quiet" }, ["Longer than what is kept for this page."])] : []),
          ]),
        ]),
  );
}

function pairs(className, entries) {
  return element(
    "dl",
    { className },
    entries.map(([name, value]) => element("div", {}, [element("dt", {}, [name]), element("dd", {}, [value])])),
  );
}

function end(id, card, data) {
  if (card.ended) return;
  card.ended = true;
  card.bar.hidden = true;
  // The keyboard's place goes with the button.
  if (document.activeElement === card.stop) card.heading.focus();
  card.stop.remove();
  const isDone = data.status === "done";
  card.state.className = `state ${data.status}`;
  card.state.textContent = isDone ? `Done in ${((data.processing_time_ms ?? 0) / 1_000).toFixed(1)} s` : data.error_message;
  card.view.replaceChildren(...(isDone ? [resultOf(card, data)] : []));
  const links = isDone ? [["Original", data.result_url], ...Object.entries(data.results_alt_formats ?? {})] : [];
  card.actions.prepend(
    ...links.map(([name, href]) =>
      element("a", { href: here(href), target: "_blank", rel: "noopener" }, [name.length <= 4 ? name.toUpperCase() : name]),
    ),
  );
  card.actions.append(
    deliveriesButton(id, card),
    element("button", { type: "button", className: "plain", onclick: () => hide(id) }, ["Hide"]),
  );
  if (!card.wasUnfinished) return;
  find("announcer").textContent = `${excerpt(card.title, 80)}: ${card.state.textContent}`;
  ended();
}

function hide(id) {
  const next = cards.get(id).node.nextElementSibling ?? cards.get(id).node.previousElementSibling;
  remove(id);
  (next?.querySelector("h3") ?? find("live-title")).focus();
}

/** By the file's ending: a picture, a sound, a film, or a text. */
function resultOf({ title }, { result_url: link, results_alt_formats: others, result, params }) {
  const url = here(link);
  const path = new URL(url).pathname;
  const name = excerpt(title, 120);
  if (/\.(png|jpe?g|webp|gif|avif)$/.test(path)) return element("img", { src: url, alt: name, ...sizeOf(params) });
  if (/\.(mp3|wav|flac|ogg)$/.test(path)) return element("audio", { src: url, controls: true, ariaLabel: name });
  if (/\.(mp4|webm)$/.test(path)) {
    const poster = others?.jpg ? { poster: here(others.jpg) } : {};
    return element("video", { src: url, controls: true, loop: true, playsInline: true, ariaLabel: name, ...poster, ...sizeOf(params) });
  }
  const text = element("pre", { tabIndex: 0, ariaLabel: name, role: "group" }, [result ?? ""]);
  if (result === null) void readText(url, text);
  return text;
}

/** So that nothing jumps once the file is here. */
function sizeOf({ width, height }) {
  return typeof width === "number" && typeof height === "number" ? { width, height } : {};
}

/** A text that did not come with the status. A store elsewhere may not let the page read it. */
async function readText(url, place) {
  const answer = await fetch(url).catch(() => null);
  place.textContent = answer?.ok ? await answer.text() : "The result is a file; open the original.";
}

async function cancel(id) {
  await call("POST", `requests/${id}/cancel`).catch(() => undefined);
}

function deliveriesButton(id, card) {
  const place = element("div");
  card.node.append(place);
  return element("button", { type: "button", className: "plain", onclick: () => void showDeliveries(id, place) }, ["Webhooks"]);
}

async function showDeliveries(id, place) {
  try {
    const { data } = await call("GET", `requests/${id}/deliveries`);
    const rows = data.map((row) =>
      element("li", {}, [
        `${row.event}: ${row.status} `,
        element("button", { type: "button", className: "plain", onclick: () => void redeliver(id, row, place) }, ["Deliver again"]),
      ]),
    );
    place.replaceChildren(
      rows.length === 0 ? element("p", { className: "quiet" }, ["No webhook was asked for."]) : element("ol", {}, rows),
    );
  } catch (thrown) {
    place.replaceChildren(element("p", { className: "problem" }, [thrown.message]));
  }
}

async function redeliver(id, row, place) {
  const problem = await call("POST", `requests/${id}/deliveries/${row.delivery_id}/redeliver`).then(
    () => null,
    (thrown) => thrown.message,
  );
  await showDeliveries(id, place);
  if (problem !== null) place.append(element("p", { className: "problem", role: "alert" }, [problem]));
}
