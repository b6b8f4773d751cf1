import { call, onRefused, Problem } from "./api.js";
import { find, tell } from "./dom.js";
import { clearDraft, openDraft } from "./drafts.js";
import { refreshHistory } from "./history.js";
import { readHook } from "./hook.js";
import { openJobForm } from "./job.js";
import { forgetKey, isOwnMachine, onForgottenElsewhere, savedKey, saveKey } from "./key.js";
import { restoreCards, update } from "./cards.js";
import { openSocket } from "./socket.js";

const RETRY_MS = 3_000;
const NOTICE = "dryapi-notice";

let socket = null;

async function enter() {
  const [settings, rows] = await Promise.all([
    call("GET", "/console/settings.json"),
    refreshHistory(),
    // Before anybody can type over it.
    readHook(),
  ]);
  openDraft();
  find("key-form").hidden = true;
  find("workplace").hidden = false;
  find("leave").hidden = false;
  openJobForm(settings.tasks);
  restoreCards(rows);
  tell(find("connection"), "Connecting …");
  socket = openSocket({
    appKey: settings.app_key,
    onUpdate: update,
    onState: (up) => tell(find("connection"), up ? "Live" : "Reconnecting; results are polled meanwhile"),
  });
}

/** With the key of before. A server that does not answer now may in a moment; a key that is refused is no key. */
async function resume() {
  find("leave").hidden = false;
  tell(find("connection"), "Connecting …");
  while (savedKey() !== null) {
    try {
      return await enter();
    } catch (thrown) {
      if (isRefusal(thrown)) return leave("The key is not accepted any more.");
      tell(find("connection"), `${wordsOf(thrown)} Trying again.`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

const isRefusal = (thrown) => thrown instanceof Problem && thrown.status === 401;
const wordsOf = (thrown) => (thrown instanceof TypeError ? "The server does not answer." : thrown.message);

/** Back to the form for the key, with nothing of this one left in the page. */
function leave(notice = "") {
  socket?.close();
  forgetKey();
  try {
    if (notice) sessionStorage.setItem(NOTICE, notice);
  } catch {
    // Then nothing is said.
  }
  location.reload();
}

find("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  saveKey(find("key").value.trim(), { onDevice: find("remember").checked });
  tell(find("key-problem"), "");
  try {
    await enter();
    find("key").value = "";
    find("task").focus();
  } catch (thrown) {
    forgetKey();
    tell(find("key-problem"), isRefusal(thrown) ? "This key is not known." : wordsOf(thrown));
    find("key").focus();
  }
});
find("leave").addEventListener("click", () => {
  clearDraft();
  leave();
});
// While a key is being tried, whoever tries it says so.
onRefused(() => {
  if (!find("workplace").hidden) leave("The key is not accepted any more.");
});
onForgottenElsewhere(() => {
  clearDraft();
  leave();
});

find("remember").checked = isOwnMachine();
if (savedKey() !== null) void resume();
else {
  // Only now: what is chosen in it before this script has run would be undone, or sent without it.
  find("key-form").hidden = false;
  try {
    tell(find("key-problem"), sessionStorage.getItem(NOTICE));
    sessionStorage.removeItem(NOTICE);
  } catch {
    // Nothing was left to say.
  }
}
