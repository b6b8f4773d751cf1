import { AppError, asAppError } from "../../protocol/error.ts";
import { resizeLanczos } from "../media/resize-lanczos.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import { spentMs, spentSince, type SpentMs } from "../graph/open-graphs.ts";
import type { JobEnd, RunContext } from "../pipeline.ts";
import { flowMatchSchedule, type FlowMatchSchedule } from "./flow-match-schedule.ts";
import { packedShape, unpackLatents, type LatentShape } from "./latents.ts";
import type { PictureJob } from "./picture-job.ts";
import type { PictureModel } from "./picture-model.ts";
import { writePicture } from "./picture-output.ts";
import { toPixels } from "./pixels.ts";
import { LatentPreview } from "./preview.ts";
import { RowDenoising, type RowVelocity } from "./row-denoising.ts";
import { startFromImage, startFromNoise } from "./start-latents.ts";
import { TorchRandom } from "./torch-random.ts";

/** Share of a job's work that is done after each stage, for the progress bar; steps divide the middle. */
const AFTER_TEXT = 0.05;
const AFTER_STEPS = 0.9;
const AFTER_DECODE = 0.95;

/** One picture of a batch on its way. */
export interface Member {
  readonly job: PictureJob;
  /** Time that reading and preparing its inputs took, milliseconds. */
  readonly inputMs: number;
}

interface Conditioned<Text> extends Member {
  readonly text: Text;
  /** Null without classifier-free guidance. */
  readonly negative: Text | null;
  readonly cached: boolean;
}

/** Jobs of one size, number of steps and guidance, run as one. Each ends by itself: a cancelled one leaves between two steps, and ends the runs
 * that are for it alone. */
export class PictureBatch<Text> {
  readonly #model: PictureModel<Text>;
  readonly #slug: string;
  readonly #context: RunContext;
  readonly #end: (id: string, end: JobEnd) => void;
  readonly #shape: LatentShape;
  readonly #schedule: FlowMatchSchedule;
  readonly #startedAt = performance.now();
  readonly #spentBefore: Required<SpentMs>;
  #preview: LatentPreview | null = null;

  constructor(options: {
    readonly model: PictureModel<Text>;
    readonly slug: string;
    readonly context: RunContext;
    readonly end: (id: string, end: JobEnd) => void;
    readonly first: PictureJob;
  }) {
    const { model, first } = options;
    const { channels, factor } = model.latents;
    this.#model = model;
    this.#slug = options.slug;
    this.#context = options.context;
    this.#end = options.end;
    this.#shape = { channels, height: first.height / factor, width: first.width / factor };
    this.#schedule = flowMatchSchedule(model.schedule, first.steps, packedShape(this.#shape).tokens);
    this.#spentBefore = spentMs(model);
  }

  /** Throws what concerns all members that have not ended. */
  async run(members: readonly Member[]): Promise<void> {
    const conditioned = await this.#encodeTexts(members);
    const started = await this.#startLatents(conditioned);
    if (started.members.length === 0) return;
    const denoised = await this.#denoise(started.members, started.latents);
    await this.#finish(denoised.members, denoised.denoising);
  }

  async #encodeTexts(members: readonly Member[]): Promise<Conditioned<Text>[]> {
    const done: Conditioned<Text>[] = [];
    for (const member of members) {
      if (this.#dropCancelled(member)) continue;
      const { job } = member;
      const texts = await this.#unlessCancelled([member], () => this.#encodeTextsOf(job));
      if (texts === null) continue;
      done.push({ ...member, ...texts });
      this.#progress(job, "text", { fraction: AFTER_TEXT, step: 0, stepMs: 0 });
    }
    return done;
  }

  async #encodeTextsOf(job: PictureJob): Promise<Omit<Conditioned<Text>, keyof Member>> {
    const announce = (): Promise<void> => this.#enter("text", [job.id]);
    const { embedding, cached } = await this.#model.encodeText(job.prompt, announce);
    const negative = job.trueCfgScale > 1 ? (await this.#model.encodeText(job.negativePrompt, announce)).embedding : null;
    return { text: embedding, negative, cached };
  }

  /** One generator per job, drawn from in the order of diffusers; rows are packed side by side. */
  async #startLatents(
    members: readonly Conditioned<Text>[],
  ): Promise<{ readonly members: Conditioned<Text>[]; readonly latents: Float32Array }> {
    const rowSize = this.#rowSize();
    const latents = new Float32Array(members.length * rowSize);
    const going: Conditioned<Text>[] = [];
    for (const member of members) {
      const { job } = member;
      const { image } = job;
      const row = latents.subarray(going.length * rowSize, (going.length + 1) * rowSize);
      const random = new TorchRandom(job.seed);
      if (image === null) {
        startFromNoise(random, this.#shape, row);
      } else {
        if (this.#dropCancelled(member)) continue;
        const parameters = await this.#unlessCancelled([member], () => this.#encodeImage(image, job));
        if (parameters === null) continue;
        const { scale, shift } = this.#model.latents;
        startFromImage(random, this.#shape, { parameters, scale, shift }, this.#schedule.sigmas[job.start]!, row);
      }
      going.push(member);
    }
    return { members: going, latents: latents.subarray(0, going.length * rowSize) };
  }

  async #encodeImage(image: RgbImage, { id, width, height }: PictureJob): Promise<Float32Array> {
    const { encoder } = this.#model;
    if (encoder === null)
      throw new AppError("INTERNAL", `model ${this.#slug} has no image-to-image and was given a picture; this is a bug`);
    await this.#enter("encode_input", [id]);
    return encoder.encode(resizeLanczos(image, width, height));
  }

  async #denoise(
    members: Conditioned<Text>[],
    latents: Float32Array,
  ): Promise<{ readonly members: readonly Conditioned<Text>[]; readonly denoising: RowDenoising }> {
    const { start, steps } = members[0]!.job;
    using denoising = this.#openDenoising(members, latents);
    const going = [...members];
    for (let index = start; index < steps; index++) {
      const startedAt = performance.now();
      this.#leave(going, denoising);
      if (going.length === 0) break;
      const velocity = await this.#unlessCancelled(going, async () => {
        await this.#enter("denoise", idsOf(going));
        return denoising.velocity(index);
      });
      if (velocity === null) return { members: [], denoising };
      const paintedAt = index + 1 - start;
      this.#showPreviews(going, denoising, velocity, index, paintedAt);
      denoising.advance(index, velocity);
      const fraction = AFTER_TEXT + ((AFTER_STEPS - AFTER_TEXT) * paintedAt) / (steps - start);
      const stepMs = performance.now() - startedAt;
      for (const { job } of going) this.#progress(job, "denoise", { fraction, step: paintedAt, stepMs });
    }
    return { members: going, denoising };
  }

  #openDenoising(members: readonly Conditioned<Text>[], latents: Float32Array): RowDenoising {
    const { guidance, trueCfgScale } = members[0]!.job;
    const start = (texts: readonly Text[]): RowVelocity => this.#model.openRun(this.#shape, texts, guidance ?? 0);
    const negatives = members.flatMap(({ negative }) => (negative === null ? [] : [negative]));
    return new RowDenoising({
      schedule: this.#schedule,
      latents,
      rowSize: this.#rowSize(),
      conditioned: start(members.map(({ text }) => text)),
      negative: trueCfgScale > 1 ? start(negatives) : null,
      trueCfgScale,
    });
  }

  /** Takes cancelled members and their rows out. */
  #leave(going: Conditioned<Text>[], denoising: RowDenoising): void {
    for (let row = going.length - 1; row >= 0; row--) {
      if (!this.#dropCancelled(going[row]!)) continue;
      going.splice(row, 1);
      denoising.dropRow(row);
    }
  }

  #showPreviews(going: readonly Conditioned<Text>[], denoising: RowDenoising, velocity: Float32Array, index: number, step: number): void {
    const { rgb } = this.#model.latents;
    if (this.#shape.channels !== rgb.factors.length) return;
    for (const [row, { job }] of going.entries()) {
      this.#context.preview(job.id, step, () => {
        this.#preview ??= new LatentPreview(this.#shape, rgb);
        const rowVelocity = velocity.subarray(row * this.#rowSize(), (row + 1) * this.#rowSize());
        return this.#preview.render(denoising.row(row), rowVelocity, this.#schedule.sigmas[index]!);
      });
    }
  }

  /** Decodes one picture after the other; encoding runs beside the next decoding, off the JS thread. */
  async #finish(members: readonly Conditioned<Text>[], denoising: RowDenoising): Promise<void> {
    const writing: Promise<void>[] = [];
    try {
      for (const [row, member] of members.entries()) {
        if (this.#dropCancelled(member)) continue;
        const image = await this.#unlessCancelled([member], () => this.#decode(member.job, denoising.row(row)));
        if (image === null) continue;
        this.#progress(member.job, "decode", { fraction: AFTER_DECODE, step: this.#stepsOf(member.job), stepMs: 0 });
        writing.push(this.#write(member, image));
      }
      if (writing.length > 0) this.#context.stage("encode", idsOf(members));
    } finally {
      // Also when a decode failed for all that are left: what was decoded before it ends well.
      await Promise.all(writing);
    }
  }

  /** An error when the output holds values that are not finite. */
  async #decode({ id }: PictureJob, latents: Float32Array): Promise<RgbImage | AppError> {
    await this.#enter("decode", [id]);
    const { scale, shift } = this.#model.latents;
    const planes = new Float32Array(latents.length);
    unpackLatents(latents, this.#shape, planes, scale, shift);
    const pixels = await this.#model.decoder.decode(planes, this.#shape);
    return toPixels(pixels) ?? notFinite(planes);
  }

  async #write(member: Conditioned<Text>, image: RgbImage | AppError): Promise<void> {
    const { job, inputMs, cached } = member;
    const runMs = performance.now() - this.#startedAt;
    const spent = spentSince(this.#model, this.#spentBefore);
    try {
      if (image instanceof AppError) throw image;
      const { files, encodeMs } = await writePicture(job, this.#slug, image);
      const info = { width: job.width, height: job.height, steps: job.steps, model: this.#slug, text_cached: cached };
      this.#end(job.id, { ok: true, output: { files, seed: job.seed, info, inputMs, runMs, encodeMs, ...spent } });
    } catch (thrown) {
      this.#end(job.id, { ok: false, error: asAppError(thrown) });
    }
  }

  /** Begins a stage for these jobs, once its graphs are open. @throws AppError CANCELLED, and as OpenGraphs.enter */
  async #enter(stage: string, ids: readonly string[]): Promise<void> {
    await this.#model.enter(stage, (load) => this.#context.stage(load, ids));
    this.#context.stage(stage, ids);
  }

  /** What runs for these members give; null, and their end, when it was ended because all of them are cancelled. */
  async #unlessCancelled<T>(members: readonly Member[], work: () => Promise<T>): Promise<T | null> {
    try {
      return await work();
    } catch (thrown) {
      const isCancel = thrown instanceof AppError && thrown.code === "CANCELLED";
      if (!isCancel || !members.every(({ job }) => this.#context.cancelled(job.id))) throw thrown;
      for (const member of members) this.#dropCancelled(member);
      return null;
    }
  }

  #dropCancelled({ job }: Member): boolean {
    if (!this.#context.cancelled(job.id)) return false;
    this.#end(job.id, { ok: false, error: new AppError("CANCELLED", `job ${job.id} was cancelled`) });
    return true;
  }

  #progress(job: PictureJob, stage: string, at: { readonly fraction: number; readonly step: number; readonly stepMs: number }): void {
    this.#context.progress(job.id, { ...at, stage, steps: this.#stepsOf(job) });
  }

  #stepsOf({ start, steps }: PictureJob): number {
    return steps - start;
  }

  #rowSize(): number {
    const { tokens, features } = packedShape(this.#shape);
    return tokens * features;
  }
}

function idsOf(members: readonly Member[]): readonly string[] {
  return members.map(({ job }) => job.id);
}

function notFinite(latents: Float32Array): AppError {
  const part = latents.every(Number.isFinite) ? "vae_decoder" : "transformer";
  return new AppError(
    "BAD_OUTPUT",
    `part ${part} gave values that are not finite: most likely an overflow in float16; export that part with bfloat16 or float32 inside (scripts/export/README.md)`,
  );
}
