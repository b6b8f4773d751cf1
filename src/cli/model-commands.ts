import { Option, type Command } from "commander";
import { readConfig } from "../config/config.ts";
import { DEVICE_KINDS } from "../protocol/manifest.ts";
import { after, examples, type JsonOption, type ProgramContext } from "./command-context.ts";
import type { InspectOptions } from "./inspect-command.ts";
import type { VerifyOptions } from "./models-command.ts";
import type { PullCommandOptions } from "./pull-command.ts";

interface IntoOption {
  readonly into?: string;
}

export function addModelCommands(program: Command, { env, terminal, setExitCode }: ProgramContext): void {
  const models = program.command("models").description("The models on this machine.");
  models
    .command("list")
    .description("List models, their state and what is wrong with them. With --available what could be pulled.")
    .option("--available", "what `models pull` could get, asked of its sources", false)
    .option("--json", "print one JSON object", false)
    .addHelpText("after", after("models", "dryapi models list", "dryapi models list --available"))
    .action(async (options: JsonOption & { readonly available: boolean }) => {
      const config = readConfig(env);
      if (options.available) setExitCode(await (await import("./pull-command.ts")).runModelsAvailable(config, options, terminal));
      else setExitCode(await (await import("./models-command.ts")).runModelsList(config, options, terminal));
    });
  addStoreCommands(models, { env, terminal, setExitCode });
  models
    .command("verify")
    .description(
      "Hash every pinned file of the named models (of all without a name). With --device also load them there and say which nodes run where.",
    )
    .argument("[slugs...]", "models")
    .option("--load", "load them on the first device and run the smallest request that their limits allow", false)
    .addOption(new Option("--device <kind>", "load them on it; nodes that it cannot run are on the CPU").choices(DEVICE_KINDS))
    .option("--json", "print one JSON object", false)
    .addHelpText(
      "after",
      after("models", "dryapi models verify", "dryapi models verify Flux1schnell --device cuda", "dryapi models verify Kokoro --load"),
    )
    .action(async (slugs: string[], options: VerifyOptions) => {
      setExitCode(await (await import("./models-command.ts")).runModelsVerify(env, slugs, options, terminal));
    });
  models
    .command("inspect")
    .description(
      "Show what is in ONNX files: inputs, outputs, types, operator sets, operators. Guess the family and propose a model.json. With --device also load them there.",
    )
    .argument("<path>", "a folder of a model, or an .onnx file")
    .addOption(new Option("--device <kind>", "load the proposed model on it and say which provider has which nodes").choices(DEVICE_KINDS))
    .option("--json", "print one JSON object", false)
    .addHelpText("after", after("models", "dryapi models inspect ./my-export", "dryapi models inspect ./my-export --device cuda"))
    .action(async (path: string, options: InspectOptions) => {
      setExitCode(await (await import("./inspect-command.ts")).runModelsInspect(env, path, options, terminal));
    });
  models
    .command("schema")
    .description("Print the JSON Schema of model.json.")
    .addHelpText("after", examples("dryapi models schema > models/schema.json"))
    .action(async () => setExitCode((await import("./models-command.ts")).runModelsSchema(terminal)));
}

/** What is pulled, and what becomes of it. */
function addStoreCommands(models: Command, { env, terminal, setExitCode }: ProgramContext): void {
  models
    .command("pull")
    .description("Get a model's files, whole or not at all. One that was interrupted goes on where it ended.")
    .argument("<slug>", "model")
    .option("--variant <name>", "another one than the manifest's default")
    .option(
      "--into <dir>",
      "folder of models; default: the first of DRYAPI_MODELS_DIR without a folder of its own for the model, else models in the state folder",
    )
    .option("--accept-license", "accept a licence that does not allow commercial use; asked for once", false)
    .option("--json", "print one JSON object a line", false)
    .addHelpText("after", after("models", "dryapi models pull WhisperBase", "dryapi models pull Kokoro --variant int8"))
    .action(async (slug: string, options: PullCommandOptions) =>
      setExitCode(await (await import("./pull-command.ts")).runModelsPull(readConfig(env), slug, options, terminal)),
    );
  models
    .command("du")
    .description("What pulled models take of the disk.")
    .option("--into <dir>", "folder that they were pulled into; default: all folders of models")
    .option("--json", "print one JSON object", false)
    .addHelpText("after", after("models", "dryapi models du"))
    .action(async (options: JsonOption & IntoOption) =>
      setExitCode(await (await import("./pulled-command.ts")).runModelsUsage(readConfig(env), options, terminal)),
    );
  models
    .command("rm")
    .description("Remove pulled models, all of their variants.")
    .argument("<slugs...>", "models")
    .option("--into <dir>", "folder that they were pulled into; default: all folders of models")
    .addHelpText("after", after("models", "dryapi models rm WhisperBase"))
    .action(async (slugs: string[], options: IntoOption) =>
      setExitCode(await (await import("./pulled-command.ts")).runModelsRemove(readConfig(env), slugs, options, terminal)),
    );
  models
    .command("prune")
    .description("Remove pulls that are not whole, and variants that another one replaced.")
    .option("--into <dir>", "folder that they were pulled into; default: all folders of models")
    .addHelpText("after", after("models", "dryapi models prune"))
    .action(async (options: IntoOption) =>
      setExitCode(await (await import("./pulled-command.ts")).runModelsPrune(readConfig(env), options, terminal)),
    );
}
