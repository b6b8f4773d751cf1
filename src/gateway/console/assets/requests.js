import { call, Problem } from "./api.js";
import { element, find } from "./dom.js";

const cards = new Map();
const POLL_MS = 1_000;
let cursor = null;

/** A card for a request that is followed to its end. */
export function follow(id, title) {
  const known = cards.get(id);
  if (known !== undefined) {
    // The socket may tell of a request before the answer to its submit is here.
    rename(known, title);
    return known.node.scrollIntoView({ block: "nearest" });
  }
  const bar = element("progress", { max: 100, value: 0 });
  bar.setAttribute("aria-label", `Progress of ${title}`);
  const state = element("p", { className: "state pending" }, ["Waiting"]);
  const view = element("div");
  const stop = element("button", { type: "button", className: "plain", onclick: () => cancel(id) }, ["Cancel"]);
  const actions = element("p", { className: "buttons" }, [stop]);
  const node = element("article", { id: `request-${id}` }, [element("h3", {}, [title]), state, bar, view, actions]);
  if (cards.size === 0) find("live").replaceChildren();
  find("live").prepend(node);
  cards.set(id, { node, bar, state, view, stop, actions, title, ended: false });
  void poll(id);
}

function rename(card, title) {
  card.title = title;
  card.node.querySelector("h3").textContent = title;
  card.bar.setAttribute("aria-label", `Progress of ${title}`);
  for (const image of card.view.querySelectorAll("img")) image.alt = image.classList.contains("preview") ? `Preview of ${title}` : title;
}

/** An update of the socket; of requests that other tabs or programs submitted, too. */
export function update(payload) {
  const { request_id: id, status, progress, preview } = payload;
  if (!cards.has(id)) follow(id, `Request ${id.slice(0, 8)}`);
  const card = cards.get(id);
  if (card.ended) return;
  if (status === "done" || status === "error") return void poll(id);
  show(card, "processing", Number(progress), preview);
}

async function poll(id) {
  const card = cards.get(id);
  while (!card.ended) {
    try {
      const { data } = await call("GET", `request-status/${id}`);
      if (data.status === "done" || data.status === "error") return end(id, card, data);
      show(card, data.status, data.progress, data.preview, data);
    } catch (thrown) {
      if (thrown instanceof Problem && thrown.status === 404) return;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function show(card, status, progress, preview, data) {
  const words =
    status === "processing"
      ? `Working, ${Math.round(progress)} %`
      : `Waiting${data?.queue_position ? `, place ${data.queue_position}` : ""}${data?.waiting_message ? `. ${data.waiting_message}` : ""}`;
  card.state.textContent = words;
  card.state.className = `state ${status}`;
  card.bar.value = progress;
  if (!preview) return;
  const image = card.view.querySelector("img.preview") ?? element("img", { className: "preview", alt: `Preview of ${card.title}` });
  image.src = preview;
  if (!image.isConnected) card.view.replaceChildren(image);
}

function end(id, card, data) {
  if (card.ended) return;
  card.ended = true;
  card.bar.hidden = true;
  card.stop.remove();
  card.state.className = `state ${data.status}`;
  card.state.textContent = data.status === "done" ? `Done in ${((data.processing_time_ms ?? 0) / 1_000).toFixed(1)} s` : data.error_message;
  card.view.replaceChildren(...(data.status === "done" ? [resultOf(card, data)] : []));
  const links = data.status === "done" ? [["Original", data.result_url], ...Object.entries(data.results_alt_formats ?? {})] : [];
  card.actions.prepend(
    ...links.map(([name, href]) =>
      element("a", { href, target: "_blank", rel: "noopener" }, [
        name.toUpperCase() === name ? name : name.length <= 4 ? name.toUpperCase() : name,
      ]),
    ),
  );
  card.actions.append(deliveriesButton(id, card));
  find("announcer").textContent = `${card.title}: ${card.state.textContent}`;
  void history();
}

/** By the file's ending: a picture, a sound, a film, or a text. */
function resultOf({ title }, { result_url: url, results_alt_formats: others, result }) {
  const path = new URL(url, location.href).pathname;
  if (/\.(png|jpe?g|webp|gif|avif)$/.test(path)) return element("img", { src: url, alt: title });
  if (/\.(mp3|wav|flac|ogg)$/.test(path)) return element("audio", { src: url, controls: true, ariaLabel: title });
  if (/\.(mp4|webm)$/.test(path)) {
    const poster = others?.jpg ? { poster: others.jpg } : {};
    return element("video", { src: url, controls: true, loop: true, playsInline: true, ariaLabel: title, ...poster });
  }
  const text = element("pre", {}, [result ?? ""]);
  if (result === null) void readText(url, text);
  return text;
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

/** The newest page, or the next older one. */
export async function history({ older = false } = {}) {
  const { data, meta } = await call("GET", `requests?limit=10${older && cursor !== null ? `&cursor=${cursor}` : ""}`);
  cursor = meta.next_cursor;
  const rows = data.map(({ request_id: id, task, model, status, created_at: at, waiting_message: why }) => {
    // Stored by a newer version, or damaged: nothing but its id is known here.
    const name = task === null ? `${id} (cannot be read)` : `${task} with ${model}`;
    return element("li", {}, [
      element("button", { type: "button", className: "plain", onclick: () => follow(id, name) }, [name]),
      element("span", { className: `state ${status}`, ...(why ? { title: why } : {}) }, [status]),
      ...(at === null ? [] : [element("time", { dateTime: at }, [new Date(at).toLocaleString()])]),
    ]);
  });
  if (older) find("history").append(...rows);
  else find("history").replaceChildren(...rows);
  find("more").hidden = cursor === null;
}
