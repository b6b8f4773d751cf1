import { FILE_FIELDS } from "../core/task-fields.ts";
import { AppError } from "../protocol/error.ts";
import type { InputFile } from "../requests/store-inputs.ts";

export interface SubmitFields {
  /** Slug, null when none was named. */
  readonly model: string | null;
  readonly fields: Readonly<Record<string, string>>;
  readonly files: readonly InputFile[];
}

/** Fields whose `@path` is a file; anywhere else a leading @ is text, since prompts may begin with one. */
const isFileField = (key: string): boolean => FILE_FIELDS.has(key.replace(/\[\d*\]$/, ""));

/**
 * Reads `key=value` arguments. `image=@cat.png` names a file; `images=@a.png images=@b.png` several.
 * @throws AppError INVALID_INPUT that names the argument
 */
export function parseSubmitFields(parameters: readonly string[], model: string | null): SubmitFields {
  const fields: Record<string, string> = {};
  const files: InputFile[] = [];
  let named = model;
  for (const parameter of parameters) {
    const split = parameter.indexOf("=");
    const key = parameter.slice(0, split).trim();
    if (split < 1 || key === "")
      throw new AppError("INVALID_INPUT", `parameter ${JSON.stringify(parameter)}: expected key=value, such as steps=4 or image=@cat.png`);
    const value = parameter.slice(split + 1);
    if (isFileField(key)) {
      files.push({ name: key, path: filePath(key, value) });
    } else if (key === "model") {
      if (named !== null && named !== value) throw new AppError("INVALID_INPUT", `the model is named twice: ${named} and ${value}`);
      named = value;
    } else if (Object.hasOwn(fields, key)) {
      throw new AppError("INVALID_INPUT", `parameter ${key} is given twice: ${fields[key]} and ${value}`);
    } else {
      fields[key] = value;
    }
  }
  return { model: named, fields, files: numbered(files) };
}

function filePath(key: string, value: string): string {
  if (value.startsWith("@") && value.length > 1) return value.slice(1);
  throw new AppError(
    "INVALID_INPUT",
    `parameter ${key} is ${JSON.stringify(value)}, expected @ and the path of a file, such as ${key}=@cat.png`,
  );
}

/** `images` and `images[]` get their place as a number, in the order given. */
function numbered(files: readonly InputFile[]): InputFile[] {
  let next = 0;
  return files.map((file) => (/^images(\[\])?$/.test(file.name) ? { ...file, name: `images[${next++}]` } : file));
}
