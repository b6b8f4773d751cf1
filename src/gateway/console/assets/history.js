import { call } from "./api.js";
import { follow, onEnd, showCard, titleOf } from "./cards.js";
import { element, excerpt, find, when } from "./dom.js";

const PAGE = 10;
let cursor = null;
let turn = 0;
let isBehind = false;
let isCatchingUp = false;

/** The newest page; its rows. */
export async function refreshHistory() {
  turn += 1;
  const mine = turn;
  const { data, meta } = await call("GET", `requests?limit=${PAGE}`);
  // A later question may have been answered before.
  if (mine === turn) {
    cursor = meta.next_cursor;
    find("history").replaceChildren(
      ...(data.length === 0 ? [element("li", { className: "quiet" }, ["Nothing was asked for yet."])] : data.map(rowOf)),
    );
    find("more").hidden = cursor === null;
  }
  return data;
}

/** However many requests end meanwhile, one question at a time is under way. */
async function catchUp() {
  isBehind = true;
  if (isCatchingUp) return;
  isCatchingUp = true;
  while (isBehind) {
    isBehind = false;
    await refreshHistory().catch(() => undefined);
  }
  isCatchingUp = false;
}

async function older() {
  turn += 1;
  const { data, meta } = await call("GET", `requests?limit=${PAGE}&cursor=${encodeURIComponent(cursor)}`);
  cursor = meta.next_cursor;
  const rows = data.map(rowOf);
  find("history").append(...rows);
  find("more").hidden = cursor === null;
  rows[0]?.querySelector("button").focus();
}

function rowOf(row) {
  const { request_id: id, task, model, status, created_at: at, waiting_message: why } = row;
  // Stored by a newer version, or damaged: nothing but its id is known here.
  const title = task === null ? `${id} (cannot be read)` : titleOf(row);
  const open = () => {
    follow(id, title);
    showCard(id, true);
  };
  return element("li", {}, [
    element("button", { type: "button", className: "plain title", onclick: open }, [excerpt(title, 120)]),
    element("p", { className: "meta" }, [
      element("span", { className: `state ${status}`, ...(why ? { title: why } : {}) }, [status]),
      ...(task === null ? [] : [element("span", {}, [`${task}, ${model}`])]),
      ...(at === null ? [] : [element("time", { dateTime: at }, [when(at)])]),
    ]),
  ]);
}

onEnd(() => void catchUp());
find("more").addEventListener("click", () => void older().catch(() => undefined));
