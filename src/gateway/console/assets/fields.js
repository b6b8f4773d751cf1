import { element } from "./dom.js";

const LABELS = {
  prompt: "Prompt",
  negative_prompt: "Negative prompt",
  width: "Width",
  height: "Height",
  steps: "Steps",
  guidance: "Guidance",
  seed: "Seed",
  strength: "Strength",
};
/** Fields that only models with a feature take. */
const FEATURES = {
  ref_text: "supports_voice_clone",
  ref_audio: "supports_voice_clone",
  instruct: "supports_voice_design",
  last_frame_image: "supports_last_frame",
};
const HIDDEN = new Set(["model", "webhook_url", "webhook_secret"]);
/** Files that their tasks do without. */
const OPTIONAL_FILES = new Set(["last_frame_image", "ref_audio", "reference_audio"]);

/** Inputs for a task and model, from the API's own description and the model's limits, features and defaults. */
export function fieldsFor(operation, model, task) {
  const isFile = ([, property]) => property.format === "binary";
  const schema = operation.requestBody.content["application/json"].schema;
  const required = new Set(schema.required);
  const { limits, features, defaults } = model.info;
  const offered = ([name]) => !(name in FEATURES) || features[FEATURES[name]] === true;
  const inputs = Object.entries(schema.properties)
    .filter((entry) => !HIDDEN.has(entry[0]) && !isFile(entry) && offered(entry))
    .filter(
      ([name]) =>
        features[`supports_${name}`] !== false &&
        !(name === "guidance" && features.supports_guidance === undefined && limits.max_guidance === undefined),
    )
    .map(([name, property]) => ({
      name,
      property,
      long: property.type === "string" && !property.enum,
      node: inputFor(name, property, { limits, defaults, languages: model.languages, required: required.has(name) }),
    }));
  const files = Object.entries(schema.properties)
    .filter((entry) => isFile(entry) && offered(entry))
    .map(([name]) => fileInput(name, !OPTIONAL_FILES.has(name) && !(task === "aud2video" && name === "first_frame_image")));
  const long = inputs.filter((input) => input.long).map(({ node }) => node);
  const short = inputs.filter((input) => !input.long).map(({ node }) => node);
  return [...files, ...long, element("div", { className: "row" }, short)];
}

/** A model that speaks offers its own languages and voices; the API's description names those of all models. */
function choicesOf(name, property, languages) {
  if (!languages || (name !== "lang" && name !== "voice")) return property.enum;
  const slugs = name === "lang" ? languages : languages.flatMap(({ voices }) => voices);
  return [...new Set(slugs.map(({ slug }) => slug))];
}

function inputFor(name, property, { limits, defaults, languages, required }) {
  const id = `field-${name}`;
  const min = limits[`min_${name}`] ?? property.minimum;
  const max = limits[`max_${name}`] ?? property.maximum;
  const value = defaults[name] ?? (name === "width" || name === "height" ? Math.min(512, max ?? 512) : property.default);
  const shared = { id, name, required };
  if (property.type === "boolean") {
    return element("p", {}, [
      element("label", { className: "check" }, [
        element("input", { ...shared, required: false, type: "checkbox", value: "1" }),
        labelOf(name),
      ]),
    ]);
  }
  if (property.enum) {
    const choices = [...(required ? [] : [""]), ...choicesOf(name, property, languages)];
    const select = element(
      "select",
      shared,
      choices.map((choice) => element("option", { value: choice, selected: choice === value }, [choice === "" ? "Default" : choice])),
    );
    return element("p", {}, [element("label", { htmlFor: id }, [labelOf(name)]), select]);
  }
  const input =
    property.type === "string"
      ? element(name === "prompt" || name === "text" || name === "caption" ? "textarea" : "input", { ...shared, value: value ?? "" })
      : element("input", { ...shared, type: "number", min, max, step: stepOf(name, property, limits), value: value ?? "" });
  const range =
    property.type === "string" || max === undefined || name === "seed"
      ? []
      : [element("small", { id: `${id}-range` }, [`${min} to ${max}`])];
  if (range.length > 0) input.setAttribute("aria-describedby", `${id}-range`);
  return element("p", {}, [element("label", { htmlFor: id }, [labelOf(name)]), input, ...range]);
}

function stepOf(name, property, limits) {
  if (name === "width" || name === "height") return limits.resolution_step ?? 1;
  return property.type === "integer" ? 1 : "any";
}

function fileInput(name, required) {
  const id = `field-${name}`;
  const kind = ["image", "audio", "video"].find((each) => name.includes(each));
  const accept = kind === undefined ? "audio/*,video/*" : `${kind}/*`;
  return element("p", {}, [
    element("label", { htmlFor: id }, [labelOf(name)]),
    element("input", { id, name, type: "file", accept, required }),
  ]);
}

function labelOf(name) {
  return LABELS[name] ?? (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");
}
