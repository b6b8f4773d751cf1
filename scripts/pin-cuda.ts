/**
 * Prints the pins of scripts/cuda-requirements.txt as the package index has them now for the versions that stand there: onnxruntime-gpu
 * in onnxruntime-node's version, NVIDIA's set cuda-toolkit and cuDNN. To change a version, edit `cuda-toolkit ...` or the line of cuDNN
 * there and put what this prints in place of the section. Nothing is downloaded but metadata. `--check`: exit 1 where the file differs.
 */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, "..");
const PINS = join(ROOT, "scripts", "cuda-requirements.txt");
/** What onnxruntime's CUDA provider loads, by NVIDIA's names for parts of the set. */
const PARTS = "cublas,cudart,cufft,curand,nvjitlink,nvrtc";

interface Report {
  readonly install: readonly {
    readonly metadata: { readonly name: string; readonly version: string };
    readonly download_info: { readonly archive_info: { readonly hashes: { readonly sha256: string } } };
  }[];
}

/** `name==version --hash=...` of each wheel for Linux x86-64 that pip would take, the sets themselves aside. */
async function pinsOf(requirements: readonly string[], ...options: readonly string[]): Promise<string[]> {
  const platform = [
    "--implementation",
    "cp",
    "--python-version",
    "3.12",
    "--platform",
    "manylinux_2_28_x86_64",
    "--platform",
    "manylinux_2_27_x86_64",
  ];
  const args = [
    "install",
    "--quiet",
    "--dry-run",
    "--ignore-installed",
    "--target",
    join(ROOT, ".cache", "none"),
    "--only-binary=:all:",
    ...platform,
  ];
  const python = join(ROOT, ".cache", "python-clients", "bin", "python");
  const { stdout } = await run(
    python,
    ["-m", "pip", ...args, "--platform", "manylinux2014_x86_64", ...options, "--report", "-", ...requirements],
    {
      maxBuffer: 64 * 1024 * 1024,
    },
  );
  const { install } = JSON.parse(stdout) as Report;
  return install
    .filter(({ metadata }) => metadata.name !== "cuda-toolkit")
    .map(({ metadata, download_info }) => `${metadata.name}==${metadata.version} --hash=sha256:${download_info.archive_info.hashes.sha256}`)
    .toSorted();
}

const text = await readFile(PINS, "utf8");
const { version } = JSON.parse(await readFile(join(ROOT, "node_modules/onnxruntime-node/package.json"), "utf8")) as {
  readonly version: string;
};
const wanted: [section: string, lines: string[]][] = [["provider", await pinsOf([`onnxruntime-gpu==${version}`], "--no-deps")]];
for (const major of ["13", "12"]) {
  const [, toolkit] = new RegExp(`^# \\[cuda-${major}\\] cuda-toolkit ([\\d.]+)`, "m").exec(text) ?? [];
  const [, cudnn] = new RegExp(`^nvidia-cudnn-cu${major}==([\\d.]+) `, "m").exec(text) ?? [];
  if (toolkit === undefined || cudnn === undefined) throw new Error(`${PINS} names no cuda-toolkit or no cuDNN for CUDA ${major}`);
  wanted.push([`cuda-${major}`, await pinsOf([`cuda-toolkit[${PARTS}]==${toolkit}`, `nvidia-cudnn-cu${major}==${cudnn}`])]);
}

for (const [section, lines] of wanted) {
  const [, present = ""] = new RegExp(`^# \\[${section}\\].*\\n((?:[^#\\n].*\\n)*)`, "m").exec(text) ?? [];
  const equal = present === `${lines.join("\n")}\n`;
  process.stdout.write(`# [${section}]${equal ? " is as it stands" : ""}\n${lines.join("\n")}\n`);
  if (!equal && process.argv.includes("--check")) {
    process.stderr.write(`pin-cuda: ${PINS} has something else under [${section}]\n`);
    process.exitCode = 1;
  }
}
