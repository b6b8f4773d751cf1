import { element, find, labelOf } from "./dom.js";
import { draftFiles, draftValue } from "./drafts.js";

const LONG = new Set(["prompt", "negative_prompt", "text", "caption", "lyrics"]);

/** Inputs for what a model takes, as the gateway says it: the same rows that it validates with. */
export function fieldsFor({ fields, files }) {
  // A field stands before those whose choices follow it.
  const sources = new Set(fields.map(({ choicesBy }) => choicesBy?.field));
  const ordered = [...fields.filter(({ name }) => sources.has(name)), ...fields.filter(({ name }) => !sources.has(name))];
  const inputs = ordered.filter(isChoice).map((field) => ({ long: isText(field) && field.choicesBy === undefined, node: inputFor(field) }));
  const long = inputs.filter((input) => input.long).map(({ node }) => node);
  const short = inputs.filter((input) => !input.long).map(({ node }) => node);
  return [...files.map(fileInput), ...long, ...(short.length === 0 ? [] : [element("div", { className: "row" }, short)])];
}

/** Choices that follow another field's value, made anew when that changes. Call once the fields are in the page. */
export function linkChoices({ fields }) {
  for (const field of fields.filter(({ choicesBy }) => choicesBy)) {
    const place = find(`field-${field.name}`);
    const source = find(`field-${field.choicesBy.field}`);
    const fill = () => fillChoices(place, field, field.choicesBy.choices[source.value] ?? []);
    source.addEventListener("change", fill);
    fill();
  }
}

/** One choice alone that is the default is none. */
const isChoice = ({ kind, choices, required }) => kind !== "choice" || choices.length > 1 || required;
const isText = ({ kind, choices }) => (kind === "text" || kind === "texts" || kind === "url") && choices === undefined;

function inputFor(field) {
  const { name, kind, required, choices, choicesBy } = field;
  const id = `field-${name}`;
  const shared = { id, name, required };
  if (kind === "boolean") {
    const checked = draftValue(name) ?? field.default ?? false;
    const box = element("input", { id, name, type: "checkbox", value: "1", checked });
    return element("p", {}, [element("label", { className: "check" }, [box, labelOf(name)])]);
  }
  const label = element("label", { htmlFor: id }, [labelOf(name)]);
  if (choices !== undefined || choicesBy !== undefined) {
    const select = element("select", shared);
    fillChoices(select, field, choices ?? []);
    return element("p", {}, [label, select]);
  }
  if (isText(field)) {
    const value = draftValue(name) ?? field.default ?? "";
    const { max } = field;
    const input = LONG.has(name)
      ? element("textarea", { ...shared, maxLength: max, value })
      : element("input", { ...shared, type: kind === "url" ? "url" : "text", maxLength: max, value });
    return element("p", {}, [label, input]);
  }
  return numberInput(field, shared, label);
}

function numberInput(field, shared, label) {
  const { name, kind, min = kind === "seed" ? -1 : undefined, max, step } = field;
  const input = element("input", { ...shared, type: "number", min, max, step: step ?? (kind === "number" ? "any" : 1) });
  input.inputMode = kind === "number" ? "decimal" : "numeric";
  input.value = draftNumber(field) ?? field.default ?? sizeWithoutDefault(field) ?? "";
  if (kind === "integer" && field.default === undefined && !field.required) input.placeholder = "automatic";
  const words = kind === "seed" ? "-1 is random" : rangeOf(min, max);
  if (words === null) return element("p", {}, [label, input]);
  input.setAttribute("aria-describedby", `field-${name}-range`);
  return element("p", {}, [label, input, element("small", { id: `field-${name}-range` }, [words])]);
}

function rangeOf(min, max) {
  if (max === undefined) return min === undefined ? null : `from ${min}`;
  return min === undefined ? `up to ${max}` : `${min} to ${max}`;
}

/** What was typed for one model may be too much for another: then its own default stands, and what was typed is kept. */
function draftNumber({ name, min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY }) {
  const typed = draftValue(name);
  return typed === null || (typed !== "" && !(Number(typed) >= min && Number(typed) <= max)) ? null : typed;
}

function sizeWithoutDefault({ name, required, min = 1, max = 512 }) {
  return required && (name === "width" || name === "height") ? Math.max(min, Math.min(512, max)) : null;
}

function fillChoices(select, { name, required, default: preset }, choices) {
  const texts = choices.map(String);
  const wanted = [draftValue(name), preset]
    .map((value) => (value === undefined ? null : String(value)))
    .find((value) => texts.includes(value));
  const all = required || preset !== undefined ? texts : ["", ...texts];
  select.replaceChildren(...all.map((choice) => element("option", { value: choice }, [choice === "" ? "Default" : choice])));
  if (wanted !== undefined) select.value = wanted;
}

function fileInput({ name, kind, required }) {
  const id = `field-${name}`;
  const input = element("input", { id, name, type: "file", accept: `${kind}/*`, required });
  const chosen = draftFiles(name);
  if (chosen !== null) input.files = chosen;
  return element("p", {}, [element("label", { htmlFor: id }, [labelOf(name)]), input]);
}
