import { call } from "./api.js";
import { element, excerpt, find, isNarrow, labelOf, tell } from "./dom.js";
import { draftModel, draftTask, keepChoice, keepField } from "./drafts.js";
import { fieldsFor, linkChoices } from "./fields.js";
import { follow, showCard } from "./cards.js";
import { refreshHistory } from "./history.js";

let tasks = {};
let isSubmitting = false;

/** The form for a new request. `forms`: by task, the models that do it with their fields. */
export function openJobForm(forms) {
  tasks = forms;
  const names = Object.keys(tasks);
  find("task").replaceChildren(...names.map((task) => element("option", { value: task }, [task])));
  if (names.includes(draftTask())) find("task").value = draftTask();
  fillModels();
}

function fillModels() {
  const task = find("task").value;
  const models = tasks[task] ?? [];
  find("model").replaceChildren(...models.map(({ slug, name }) => element("option", { value: slug }, [name])));
  if (models.some(({ slug }) => slug === draftModel(task))) find("model").value = draftModel(task);
  fillFields();
}

function fillFields() {
  const form = tasks[find("task").value]?.find(({ slug }) => slug === find("model").value)?.form;
  find("submit").hidden = form === undefined;
  find("fields").replaceChildren(
    ...(form === undefined
      ? [element("p", { className: "quiet" }, ["No model is offered now. Reload the page once a worker is up."])]
      : fieldsFor(form)),
  );
  if (form !== undefined) linkChoices(form);
}

/** What is in the form. Fields that are left empty are left out: then the model's default holds. */
function bodyOf(form) {
  const body = new FormData();
  for (const [name, value] of new FormData(form)) {
    if (name !== "task" && (typeof value === "string" ? value !== "" : value.size > 0)) body.append(name, value);
  }
  // A form leaves out what is not ticked; the API wants to be told.
  for (const box of find("fields").querySelectorAll("input[type=checkbox]")) body.set(box.name, box.checked ? "1" : "0");
  return body;
}

async function submit(event) {
  event.preventDefault();
  if (isSubmitting) return;
  const task = find("task").value;
  const body = bodyOf(find("job-form"));
  const title = excerpt(String(body.get("prompt") ?? body.get("text") ?? body.get("caption") ?? `${task} with ${body.get("model")}`), 200);
  setBusy(true);
  tell(find("job-problem"), "");
  tell(find("job-note"), "");
  for (const marked of find("fields").querySelectorAll("[aria-invalid]")) marked.removeAttribute("aria-invalid");
  try {
    const { data } = await call("POST", task, body);
    follow(data.request_id, title);
    find("job-note").replaceChildren(
      "Submitted: ",
      element("a", { href: `#request-${data.request_id}`, onclick: (click) => (click.preventDefault(), showCard(data.request_id, true)) }, [
        excerpt(title, 60),
      ]),
    );
    // In one column the card is out of sight; beside the form it is not, and the next request may be typed at once.
    showCard(data.request_id, isNarrow());
    void refreshHistory().catch(() => undefined);
  } catch (thrown) {
    refuse(thrown);
  } finally {
    setBusy(false);
  }
}

/** Disabled, the button would lose the focus, and the keyboard its place. */
function setBusy(busy) {
  isSubmitting = busy;
  find("submit").setAttribute("aria-disabled", String(busy));
  find("submit").textContent = busy ? "Submitting …" : "Submit";
}

function refuse(thrown) {
  const errors = Object.entries(thrown.errors ?? {});
  const words = errors.flatMap(([name, texts]) => texts.map((text) => text.replace(`The ${name} field`, labelOf(name))));
  const isUnanswered = thrown instanceof TypeError;
  tell(
    find("job-problem"),
    isUnanswered ? "The server does not answer. Nothing is lost: submit again in a moment." : words.join(" ") || thrown.message,
  );
  const fields = errors.map(([name]) => find(`field-${name.replace(/\W.*$/, "")}`)).filter(Boolean);
  for (const field of fields) {
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-errormessage", "job-problem");
  }
  (fields[0] ?? find("job-problem")).focus();
}

find("task").addEventListener("change", () => {
  fillModels();
  keepChoice(find("task").value, find("model").value);
});
find("model").addEventListener("change", () => {
  keepChoice(find("task").value, find("model").value);
  fillFields();
});
for (const event of ["input", "change"])
  find("fields").addEventListener(event, ({ target }) => {
    if (target.name) keepField(target);
  });
find("job-form").addEventListener("submit", submit);
