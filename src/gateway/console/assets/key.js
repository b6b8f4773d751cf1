/**
 * The key. It stays in this tab (sessionStorage), or on this device (localStorage) where that was wished for. Scripts of other origins reach
 * neither, and the page's policy lets none run here but its own.
 */
const STORAGE = "dryapi-key";
const stores = { tab: () => sessionStorage, device: () => localStorage };

/** A browser may refuse to store anything. Then nothing is remembered. */
function tryStore(work) {
  try {
    return work();
  } catch {
    return null;
  }
}

let current = tryStore(() => stores.tab().getItem(STORAGE)) ?? tryStore(() => stores.device().getItem(STORAGE));

export const savedKey = () => current;
export const clientId = () => (current ?? "").split("|")[0];

export function saveKey(key, { onDevice }) {
  forgetKey();
  current = key;
  tryStore(() => (onDevice ? stores.device() : stores.tab()).setItem(STORAGE, key));
}

/** In this tab and on this device. */
export function forgetKey() {
  current = null;
  for (const store of Object.values(stores)) tryStore(() => store().removeItem(STORAGE));
}

/** Calls when another tab forgets the key of this device, or replaces it, while this one uses it. */
export function onForgottenElsewhere(handler) {
  addEventListener("storage", ({ key, newValue, storageArea }) => {
    const ours = storageArea === tryStore(stores.device) && (key === STORAGE || key === null);
    if (ours && current !== null && newValue !== current && tryStore(() => stores.tab().getItem(STORAGE)) === null) handler();
  });
}

/** On one's own machine remembering is what is wanted; on any other the choice is made by hand. */
export const isOwnMachine = () => /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(location.hostname);
