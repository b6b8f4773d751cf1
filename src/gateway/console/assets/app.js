import { call, forgetKey, Problem, saveKey, savedKey } from "./api.js";
import { element, find, tell } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { follow, history, update } from "./requests.js";
import { openSocket } from "./socket.js";

let models = [];
let operations = {};
let socket = null;

const operationOf = (task) => operations[`/api/v1/client/${task}`]?.post;

async function enter() {
  const [{ data }, document_, settings] = await Promise.all([
    call("GET", "models?limit=50"),
    call("GET", "/openapi.json"),
    call("GET", "/console/settings.json"),
    // Before anybody can type over it.
    readHook(),
  ]);
  models = data;
  operations = document_.paths;
  find("key-form").hidden = true;
  find("workplace").hidden = false;
  find("leave").hidden = false;
  fillTasks();
  await history();
  socket = openSocket({
    appKey: settings.app_key,
    onUpdate: update,
    onState: (up) => tell(find("connection"), up ? "Live" : "Reconnecting; results are polled meanwhile"),
  });
  find("task").focus();
}

function fillTasks() {
  const tasks = Object.keys(operations)
    .map((path) => /^\/api\/v1\/client\/([a-z0-9-]+)$/.exec(path)?.[1])
    .filter((task) => task && operationOf(task)?.requestBody && modelsOf(task).length > 0);
  find("task").replaceChildren(...tasks.map((task) => element("option", { value: task }, [task])));
  fillModels();
}

const modelsOf = (task) =>
  models.filter(({ slug }) => operationOf(task)?.requestBody.content["application/json"].schema.properties.model.enum?.includes(slug));

function fillModels() {
  const task = find("task").value;
  find("model").replaceChildren(...modelsOf(task).map(({ slug, name }) => element("option", { value: slug }, [name])));
  fillFields();
}

function fillFields() {
  const task = find("task").value;
  const model = models.find(({ slug }) => slug === find("model").value);
  find("fields").replaceChildren(
    ...(model ? fieldsFor(operationOf(task), model, task) : [element("p", { className: "quiet" }, ["No model is offered now."])]),
  );
}

async function submit(event) {
  event.preventDefault();
  const form = new FormData(find("job-form"));
  const task = form.get("task");
  form.delete("task");
  // A form leaves out what is not ticked; the API wants to be told.
  for (const box of find("fields").querySelectorAll("input[type=checkbox]")) form.set(box.name, box.checked ? "1" : "0");
  find("submit").disabled = true;
  tell(find("job-problem"), "");
  for (const marked of find("fields").querySelectorAll("[aria-invalid]")) marked.removeAttribute("aria-invalid");
  try {
    const { data } = await call("POST", task, form);
    follow(data.request_id, form.get("prompt") || form.get("text") || form.get("caption") || `${task} with ${form.get("model")}`);
    void history();
  } catch (thrown) {
    tell(find("job-problem"), thrown.message);
    const first = Object.keys(thrown.errors ?? {})
      .map((name) => find(`field-${name}`))
      .find(Boolean);
    first?.setAttribute("aria-invalid", "true");
    first?.focus();
  } finally {
    find("submit").disabled = false;
  }
}

async function readHook() {
  const answer = await call("GET", "settings/webhook").catch(() => null);
  find("hook-url").value = answer?.data?.url ?? "";
  find("hook-enabled").checked = answer?.data?.enabled ?? false;
  if (answer?.data?.disabled_at) {
    tell(find("hook-note"), `Switched off at ${new Date(answer.data.disabled_at).toLocaleString()}: ten events in a row did not arrive.`);
  }
}

async function saveHook(rotate) {
  try {
    const { data } = await call("PUT", "settings/webhook", {
      url: find("hook-url").value,
      enabled: find("hook-enabled").checked,
      rotate_secret: rotate,
    });
    tell(find("hook-note"), data.secret ? `Saved. The secret is shown this once: ${data.secret}` : "Saved.");
  } catch (thrown) {
    tell(find("hook-note"), thrown.message);
  }
}

async function testHook() {
  tell(find("hook-note"), "Sending ...");
  const answer = await call("POST", "settings/webhook/test").catch((thrown) => ({ data: { problem: thrown.message } }));
  const { data } = answer;
  tell(
    find("hook-note"),
    data.problem ?? (data.delivered ? `It arrived: ${data.response_status}.` : `It did not arrive: ${data.error ?? data.response_status}.`),
  );
}

find("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  saveKey(find("key").value.trim());
  tell(find("key-problem"), "");
  await enter().catch((thrown) => {
    forgetKey();
    tell(find("key-problem"), thrown instanceof Problem && thrown.status === 401 ? "This key is not known." : thrown.message);
    find("key").focus();
  });
});
find("leave").addEventListener("click", () => {
  socket?.close();
  forgetKey();
  location.reload();
});
find("task").addEventListener("change", fillModels);
find("model").addEventListener("change", fillFields);
find("job-form").addEventListener("submit", submit);
find("more").addEventListener("click", () => void history({ older: true }));
find("hook-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void saveHook(false);
});
find("hook-rotate").addEventListener("click", () => void saveHook(true));
find("hook-test").addEventListener("click", () => void testHook());

if (savedKey() !== null) enter().catch(() => forgetKey());
