import { Command, InvalidArgumentError, Option } from "commander";
import { packageVersion } from "../config/package-info.ts";
import { duration, integer, type Parser } from "../config/parsers.ts";
import { TASK_NAMES } from "../protocol/task.ts";
import type { AddClientOptions } from "./clients-command.ts";
import { EXIT_CODES_HELP } from "./exit-codes.ts";
import { after, examples, type JsonOption, type ProgramContext } from "./command-context.ts";
import { addModelCommands } from "./model-commands.ts";
import type { SubmitOptions } from "./submit-report.ts";

/** Commands import what they need when they run: the daemon must not carry what submit needs, nor --help wait for either. */
export function createProgram(context: ProgramContext): Command {
  const program = new Command("dryapi")
    .description("Self-hosted image generation: a worker daemon that claims jobs from a Redis queue and runs them in onnxruntime.")
    .version(packageVersion())
    .showHelpAfterError("(dryapi --help lists the commands)")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.terminal.out(text.trimEnd()),
      writeErr: (text) => context.terminal.err(text.trimEnd()),
    });
  addDaemonCommands(program, context);
  addJobCommands(program, context);
  addClientCommands(program, context);
  addModelCommands(program, context);
  addOperatorCommands(program, context);
  program.addHelpText(
    "after",
    examples("dryapi up", 'dryapi submit txt2img model=tiny-flux-schnell prompt="a lighthouse" steps=4', "dryapi doctor") + EXIT_CODES_HELP,
  );
  return program;
}

function addDaemonCommands(program: Command, { env, terminal, setExitCode }: ProgramContext): void {
  program
    .command("worker")
    .description("Run the worker daemon of this host until it is signalled. SIGTERM or Ctrl-C drains; a second one ends at once.")
    .addHelpText(
      "after",
      after("worker", "REDIS_URL=redis://queue.internal:6379 dryapi worker", "DRYAPI_DEVICE=cuda DRYAPI_MODELS=Flux1schnell dryapi worker"),
    )
    .action(async () => setExitCode(await (await import("./worker-command.ts")).runWorkerCommand(env)));
  program
    .command("gateway")
    .description("Run the HTTP API until it is signalled. Stateless: any number of them may run behind a load balancer.")
    .addHelpText(
      "after",
      after("gateway", "REDIS_URL=redis://queue.internal:6379 DRYAPI_PUBLIC_URL=https://api.example.org dryapi gateway"),
    )
    .action(async () => setExitCode(await (await import("./gateway-command.ts")).runGatewayCommand(env)));
  program
    .command("courier")
    .description("Deliver webhooks until it is signalled. Gateways do it themselves unless DRYAPI_COURIER is off.")
    .addHelpText(
      "after",
      after("courier", "REDIS_URL=redis://queue.internal:6379 DRYAPI_PUBLIC_URL=https://api.example.org dryapi courier"),
    )
    .action(async () => setExitCode(await (await import("./courier-command.ts")).runCourierCommand(env)));
  program
    .command("up")
    .description(
      "Run everything on this machine in one command. Starts a private redis-server when REDIS_URL is unset; `dryapi submit` finds it.",
    )
    .addHelpText("after", after("up", "dryapi up", "DRYAPI_DEVICE=cpu DRYAPI_STATE_DIR=./state dryapi up"))
    .action(async () => setExitCode(await (await import("./up-command.ts")).runUpCommand(env, terminal)));
}

function addJobCommands(program: Command, { env, terminal, setExitCode }: ProgramContext): void {
  program
    .command("submit")
    .description("Submit a job, follow it, and save its files.")
    .argument("<task>", `one of ${TASK_NAMES.join(", ")}`)
    .argument(
      "[parameters...]",
      "key=value; key=@path sends a file (image=@cat.png); model=<slug> names the model. What is left out has the model's default",
    )
    .option("-m, --model <slug>", "the model (the same as model=<slug>)")
    .option("-o, --out <folder>", "where the files go", ".")
    .option("--json", "print one JSON object and no progress", false)
    .option("--no-wait", "print the request id once the job is queued and leave")
    .option("--timeout <duration>", "give up waiting after this (the job goes on)", parsedBy(duration(1)))
    .option("--preview", "keep the last preview picture beside the files", false)
    .option("--priority <n>", "1 is served first", parsedBy(integer(1, 2_097_152)), 10)
    .option("--client <name>", "who the job belongs to", "local")
    .addHelpText(
      "after",
      after(
        "submit",
        'dryapi submit txt2img model=tiny-flux-schnell prompt="a red fox"',
        'dryapi submit txt2audio model=Kokoro text="Good morning." voice=bf_emma lang=en-gb speed=0.9',
        'dryapi submit img2img -m tiny-flux-dev prompt="in winter" image=@fox.png strength=0.6 --out pictures',
        'dryapi submit txt2img -m tiny-flux-schnell prompt=fox seed=7 --json | jq -r ".files[0].path"',
      ),
    )
    .action(async (task: string, parameters: string[], options: SubmitOptions) => {
      setExitCode(await (await import("./submit-command.ts")).runSubmit(env, { ...options, task, parameters }, terminal));
    });
  program
    .command("status")
    .description("Print the state of a request.")
    .argument("<id>", "request id")
    .option("--json", "print one JSON object", false)
    .addHelpText("after", after("submit", "dryapi status 0f8fad5b-d9cb-469f-a165-70867728950e"))
    .action(async (id: string, options: JsonOption) =>
      setExitCode(await (await import("./status-command.ts")).runStatus(env, id, options, terminal)),
    );
  program
    .command("cancel")
    .description("Cancel a request: a waiting one never starts, a running one stops within moments.")
    .argument("<id>", "request id")
    .addHelpText("after", after("submit", "dryapi cancel 0f8fad5b-d9cb-469f-a165-70867728950e"))
    .action(async (id: string) => setExitCode(await (await import("./status-command.ts")).runCancel(env, id, terminal)));
}

function addClientCommands(program: Command, { env, terminal, setExitCode }: ProgramContext): void {
  const clients = program.command("clients").description("The API's clients and their keys. A key is shown once; only its hash is kept.");
  const load = async () => import("./clients-command.ts");
  clients
    .command("add")
    .description("Add a client and print its key.")
    .argument("<name>", "what people call it")
    .option("--id <id>", "part of its key and channel name; default: made up")
    .option("--per-minute <n>", "submits a minute; 0 = no limit", parsedBy(integer(0, 1_000_000)))
    .option("--per-day <n>", "submits a day; 0 = no limit", parsedBy(integer(0, 1_000_000_000)))
    .option("--priority <n>", "1 is served first", parsedBy(integer(1, 2_097_152)), 10)
    .option("--json", "print one JSON object", false)
    .addHelpText("after", after("clients", 'dryapi clients add "web shop"', "dryapi clients add batch --id batch --priority 100 --json"))
    .action(async (name: string, options: AddClientOptions) =>
      setExitCode(await (await load()).runClientsAdd(env, name, options, terminal)),
    );
  clients
    .command("list")
    .description("List the clients.")
    .option("--json", "print one JSON object", false)
    .addHelpText("after", after("clients", "dryapi clients list"))
    .action(async (options: JsonOption) => setExitCode(await (await load()).runClientsList(env, options, terminal)));
  clients
    .command("rotate")
    .description("Give a client a new key; the old one is void at once.")
    .argument("<id>", "client id")
    .addHelpText("after", after("clients", "dryapi clients rotate web-shop"))
    .action(async (id: string) => setExitCode(await (await load()).runClientsRotate(env, id, terminal)));
  for (const verb of ["disable", "enable"] as const) {
    clients
      .command(verb)
      .description(verb === "disable" ? "Refuse a client's key from now on." : "Accept a client's key again.")
      .argument("<id>", "client id")
      .addHelpText("after", after("clients", `dryapi clients ${verb} web-shop`))
      .action(async (id: string) => setExitCode(await (await load()).runClientsEnable(env, id, verb === "enable", terminal)));
  }
}

function addOperatorCommands(program: Command, { env, terminal, setExitCode }: ProgramContext): void {
  program
    .command("doctor")
    .description("Check this machine: Node, Redis, object store, models, devices, disk, clock. Says what to do about each problem.")
    .option("--json", "print one JSON object", false)
    .addOption(new Option("--no-probe", "do not start a runner on each device"))
    .addHelpText("after", after("doctor", "dryapi doctor", "dryapi doctor --json | jq '.checks[] | select(.level != \"ok\")'"))
    .action(async (options: JsonOption & { probe: boolean }) =>
      setExitCode(await (await import("./doctor-command.ts")).runDoctor(env, options, terminal)),
    );
  program
    .command("fetch-cuda")
    .description(
      "Fetch onnxruntime's CUDA provider and the CUDA libraries that it needs into the folder that workers look into (about 2.3 GB).",
    )
    .argument("[options...]", "--into DIR, --from PATH, --provider-only")
    .helpOption(false)
    .allowUnknownOption()
    .action(async (args: string[]) => setExitCode(await (await import("./fetch-cuda-command.ts")).runFetchCuda(env, args)));
  program
    .command("config")
    .description("Print every setting with its present value, default and meaning; secrets are hidden. Fails when one is invalid.")
    .option("--json", "print one JSON object", false)
    .addHelpText("after", examples("dryapi config", "DRYAPI_LOCK_MS=45s dryapi config --json") + EXIT_CODES_HELP)
    .action(async (options: JsonOption) => setExitCode((await import("./config-command.ts")).runConfig(env, options, terminal)));
}

function parsedBy<T>(parser: Parser<T>): (raw: string) => T {
  return (raw) => {
    try {
      return parser.parse(raw);
    } catch {
      throw new InvalidArgumentError(`expected ${parser.expected}.`);
    }
  };
}
