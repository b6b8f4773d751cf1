import { clientId } from "./key.js";

/**
 * What was typed and which cards are open, so that another task, another model or a reload loses neither. It stays in this tab, belongs to
 * one client, and goes with its key.
 */
const STORAGE = "dryapi-draft";
const MAX_CARDS = 12;

const empty = () => ({ client: clientId(), task: null, models: {}, values: {}, cards: [] });
let draft = empty();
/** Files by field name. A page cannot keep them over a reload. */
const files = new Map();

export function openDraft() {
  try {
    draft = { ...empty(), ...JSON.parse(sessionStorage.getItem(STORAGE)) };
  } catch {
    draft = empty();
  }
  if (draft.client !== clientId()) draft = empty();
}

export function clearDraft() {
  draft = empty();
  files.clear();
  try {
    sessionStorage.removeItem(STORAGE);
  } catch {
    // Then nothing was stored.
  }
}

function keep(change) {
  draft = { ...draft, ...change };
  try {
    sessionStorage.setItem(STORAGE, JSON.stringify(draft));
  } catch {
    // It stays as long as the page.
  }
}

export const draftTask = () => draft.task;
/** The model that was last chosen for a task. */
export const draftModel = (task) => draft.models[task] ?? null;
export const keepChoice = (task, model) => keep({ task, models: { ...draft.models, [task]: model } });

/** What was typed into fields of this name, whatever the task; null where nothing was. */
export const draftValue = (name) => draft.values[name] ?? null;
export const draftFiles = (name) => files.get(name) ?? null;

export function keepField(field) {
  if (field.type === "file") files.set(field.name, field.files);
  else keep({ values: { ...draft.values, [field.name]: field.type === "checkbox" ? field.checked : field.value } });
}

/** Request ids, oldest first. */
export const draftCards = () => draft.cards;
export const keepCard = (id) => keep({ cards: [...draft.cards.filter((each) => each !== id), id].slice(-MAX_CARDS) });
export const dropCard = (id) => keep({ cards: draft.cards.filter((each) => each !== id) });
