import { requestForm, type FormField } from "../core/request-form.ts";
import type { Manifest } from "../protocol/manifest.ts";
import { TASK_NAMES, type Task } from "../protocol/task.ts";
import { quoted } from "./own-command.ts";

/** What `dryapi up` has made. */
export interface UpFacts {
  /** Where clients reach the gateway, without a trailing slash. */
  readonly base: string;
  readonly key: string;
  readonly client: string;
  readonly appKey: string;
  /** Models whose jobs its worker takes. */
  readonly served: readonly Manifest[];
  /** Set by hand, so that the next command must have it, too; null: the default. */
  readonly stateDir: string | null;
  /** How a shell starts this program (see own-command.ts). */
  readonly command: string;
}

type Value = string | number | boolean;

interface Sample {
  readonly task: Task;
  readonly model: string;
  readonly values: Readonly<Record<string, Value>>;
  readonly files: Readonly<Record<string, string>>;
}

/** Lines that work when pasted: of a model that is served, with the fields that it has no default for. */
export function upLines(facts: UpFacts): readonly string[] {
  const sample = sampleOf(facts.served);
  if (sample === null)
    return [
      `No model is served: requests would only wait. \`${facts.command} models list\` says which models are here and what is missing of each.`,
      "Put one in place, or name it in DRYAPI_MODELS, and start again.",
    ];
  return [...curlLines(facts, sample), "", ...pusherLines(facts), "", submitLine(facts, sample)];
}

/** A task that needs no file, rather than one that does; a model of use, rather than one for tests. */
function sampleOf(served: readonly Manifest[]): Sample | null {
  const samples = TASK_NAMES.flatMap((task) =>
    served.filter(({ tasks }) => tasks.includes(task)).flatMap((manifest) => ofTask(manifest, task)),
  );
  const isTest = ({ model }: Sample): boolean => served.some(({ slug, status }) => slug === model && status === "test_model");
  const cost = (sample: Sample): number => 2 * Object.keys(sample.files).length + (isTest(sample) ? 1 : 0);
  return samples.toSorted((a, b) => cost(a) - cost(b))[0] ?? null;
}

/** None for a task whose input is an address: this machine knows of none. */
function ofTask(manifest: Manifest, task: Task): readonly Sample[] {
  const form = requestForm(manifest, task);
  const fields = form.fields.filter(({ required }) => required);
  if (fields.some(({ kind }) => kind === "url")) return [];
  const values = Object.fromEntries(fields.map((field) => [field.name, sampleValue(field)]));
  const files = form.files.filter(({ required }) => required).map(({ name, kind }) => [name, FILES[kind]] as const);
  return [{ task, model: manifest.slug, values, files: Object.fromEntries(files) }];
}

const FILES = { image: "picture.png", audio: "speech.wav", video: "clip.mp4" } as const;
const TEXTS: Readonly<Record<string, string>> = {
  text: "Hello, is anybody there?",
  input: "Hello, is anybody there?",
  caption: "a slow waltz",
};

function sampleValue({ name, kind, choices, min, max }: FormField): Value {
  const [first] = choices ?? [];
  if (first !== undefined) return first;
  if (kind === "boolean") return false;
  if (kind === "integer" || kind === "number") return Math.max(min ?? 1, Math.min(256, max ?? 256));
  return TEXTS[name] ?? "a lighthouse";
}

function curlLines({ base, key }: UpFacts, { task, model, values, files }: Sample): readonly string[] {
  const auth = `-H 'Authorization: Bearer ${key}'`;
  const parts = Object.entries({ model, ...values }).map(([name, value]) => `-F '${name}=${value}'`);
  const body =
    Object.keys(files).length === 0
      ? `-H 'Content-Type: application/json' -d '${JSON.stringify({ model, ...values })}'`
      : [...parts, ...Object.entries(files).map(([name, file]) => `-F '${name}=@${file}'`)].join(" ");
  return [
    Object.keys(files).length === 0 ? "curl:" : `curl, with a ${Object.values(files).join(" and a ")} of yours:`,
    `  id=$(curl -s ${base}/api/v1/client/${task} ${auth} \\`,
    `    ${body} | grep -o '[0-9a-f-]\\{36\\}')`,
    `  curl -s ${base}/api/v1/client/request-status/$id ${auth}`,
  ];
}

function pusherLines({ base, key, client, appKey }: UpFacts): readonly string[] {
  const { hostname, port, protocol } = new URL(base);
  return [
    "pusher-js:",
    `  import Pusher from "pusher-js";`,
    `  const pusher = new Pusher("${appKey}", { wsHost: "${hostname}", wsPort: ${port || "80"}, wssPort: ${port || "443"}, forceTLS: ${protocol === "https:"}, cluster: "x",`,
    `    enabledTransports: ["ws", "wss"], channelAuthorization: { endpoint: "${base}/broadcasting/auth", headers: { Authorization: "Bearer ${key}" } } });`,
    `  pusher.subscribe("private-client.${client}").bind("request.status.updated", (update) => console.log(update));`,
  ];
}

function submitLine({ stateDir, command }: UpFacts, { task, model, values, files }: Sample): string {
  const state = stateDir === null ? "" : `DRYAPI_STATE_DIR=${quoted(stateDir)} `;
  const parameters = Object.entries<Value>({ model, ...values }).map(([name, value]) => `${name}=${quoted(String(value))}`);
  const uploads = Object.entries(files).map(([name, file]) => `${name}=@${file}`);
  return `or       ${state}${command} submit ${task} ${[...parameters, ...uploads].join(" ")}`;
}

/** The address of a gateway that listens everywhere, as this machine reaches it. */
export function reachable(url: string): string {
  return url.replace(/^(https?:\/\/)(?:0\.0\.0\.0|\[::\])(?=[:/]|$)/, (_all, scheme: string) => `${scheme}127.0.0.1`).replace(/\/+$/, "");
}
