/** An element with properties and children. Texts become text nodes: nothing a server says is ever markup. */
export function element(tag, properties = {}, children = []) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) if (value !== undefined && value !== null) made[name] = value;
  made.append(...children);
  return made;
}

export const find = (id) => document.getElementById(id);

/** Shows a text in a place that is hidden while it has none. A place that is read out stays: readers pass over what was hidden until now. */
export function tell(place, text) {
  place.textContent = text ?? "";
  place.hidden = !text && place.role !== "status";
}

/** One line of a long text. No character is cut in two. */
export function excerpt(text, length) {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length <= length ? line : `${line.slice(0, length).replace(/[\uD800-\uDBFF]$/, "")}…`;
}

/** A time in the reader's own form. */
export const when = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A field's name in words. */
export function labelOf(name) {
  return LABELS[name] ?? (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");
}

const LABELS = {
  fps: "Frames per second",
  include_ts: "With timestamps",
  lang: "Language",
  return_result_in_response: "Short text in the answer",
  voice: "Voice",
};

/** Asks before something is done that cannot be taken back. Resolves to the choice; Escape and Cancel are no. */
export function ask({ title, text, yes }) {
  const dialog = find("ask");
  find("ask-title").textContent = title;
  find("ask-text").textContent = text;
  find("ask-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  // What does no harm is under the finger.
  find("ask-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Below this width the page is one column, and what is new is out of sight. Also in style.css. */
export const isNarrow = () => matchMedia("(max-width: 59.99rem)").matches;

for (const [id, answer] of [
  ["ask-yes", "yes"],
  ["ask-no", ""],
])
  find(id).addEventListener("click", () => find("ask").close(answer));
