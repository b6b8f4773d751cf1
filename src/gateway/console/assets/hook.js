import { call } from "./api.js";
import { ask, element, find, tell, when } from "./dom.js";

const HOURS = 24;
const SETTINGS = "settings/webhook";

let hasSecret = false;

/** The account's webhook and the secret that signs all its callbacks. */
export async function readHook() {
  const { data } = await call("GET", SETTINGS);
  find("hook-url").value = data.url ?? "";
  find("hook-enabled").checked = data.enabled;
  if (data.disabled_at) tell(find("hook-note"), `Switched off at ${when(data.disabled_at)}: ten events in a row did not arrive.`);
  showSecret(data);
}

function showSecret({ has_secret: has, secret_created_at: created, previous_secret_expires_at: previous }) {
  hasSecret = has;
  find("secret-state").textContent = has
    ? `There is a secret${created ? `, made ${when(created)}` : ""}. It signs every webhook of this account.`
    : "There is none yet: webhooks are not signed.";
  find("secret-new").textContent = has ? "Replace the secret" : "Create a secret";
  tell(find("secret-previous"), previous ? `The previous secret signs, too, until ${when(previous)}.` : "");
  find("secret-end").hidden = !previous;
}

async function save() {
  await noted("hook-note", async () => {
    const { data } = await call("PUT", SETTINGS, { url: find("hook-url").value, enabled: find("hook-enabled").checked });
    if (data.secret) showOnce(data.secret);
    await readHook();
    return "Saved.";
  });
}

async function test() {
  tell(find("hook-note"), "Sending …");
  await noted("hook-note", async () => {
    const { data } = await call("POST", `${SETTINGS}/test`);
    return data.delivered ? `It arrived: ${data.response_status}.` : `It did not arrive: ${data.error ?? data.response_status}.`;
  });
}

async function newSecret() {
  const isAgreed =
    !hasSecret ||
    (await ask({
      title: "Replace the secret?",
      text: `The new one is shown once. For ${HOURS} hours both sign every webhook, so receivers that know only the present one go on. After that they must know the new one.`,
      yes: "Replace",
    }));
  if (!isAgreed) return;
  await noted("secret-note", async () => {
    const { data } = await call("POST", `${SETTINGS}/secret`, hasSecret ? { replace: true, overlap_hours: HOURS } : {});
    showOnce(data.secret);
    showSecret(data);
    return "";
  });
}

async function endPrevious() {
  const text = "From now on the new secret alone signs. Receivers that know only the previous one refuse what they get.";
  if (!(await ask({ title: "Stop signing with the previous secret?", text, yes: "Stop" }))) return;
  await noted("secret-note", async () => {
    await call("DELETE", `${SETTINGS}/secret/previous`);
    await readHook();
    find("secret-new").focus();
    return "The previous secret signs no more.";
  });
}

/** It is in the page until that is left, and nowhere else. */
function showOnce(secret) {
  const field = element("input", { id: "secret-value", readOnly: true, value: secret, spellcheck: false });
  const note = element("span", { role: "status" });
  const copy = element("button", { type: "button", onclick: () => void copyFrom(field, note) }, ["Copy"]);
  find("secret-once").replaceChildren(
    element("label", { htmlFor: "secret-value" }, ["The new secret. It is shown this once: keep it now."]),
    element("div", { className: "joined" }, [field, copy]),
    note,
  );
  find("secret-once").hidden = false;
  field.focus();
  field.select();
}

/** Pages over plain http have no clipboard of their own. */
async function copyFrom(field, note) {
  field.select();
  const isCopied = await (navigator.clipboard?.writeText(field.value) ?? Promise.reject(new Error("no clipboard"))).then(
    () => true,
    () => document.execCommand("copy"),
  );
  note.textContent = isCopied ? "Copied." : "It is selected: copy it by hand.";
}

/** What the work says, or what was wrong, in its place. */
async function noted(id, work) {
  tell(find(id), await work().catch((thrown) => thrown.message));
}

find("hook-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void save();
});
find("hook-test").addEventListener("click", () => void test());
find("secret-new").addEventListener("click", () => void newSecret());
find("secret-end").addEventListener("click", () => void endPrevious());
