"""Golden outputs of the real diffusers LTX pipelines for the tiny model: float32 torch modules on the CPU.

    python goldens_ltx.py [case ...] [--torch DIR]

Each case becomes a folder with case.json, latents.f32 and frames.png (all frames below each other, or the part of each that `crop` says);
tables.json holds schedules and rotary embeddings of the real models' sizes. See README.md.
"""

import argparse
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import LTXConditionPipeline, LTXImageToVideoPipeline, LTXPipeline
from diffusers.models.transformers.transformer_ltx import LTXVideoRotaryPosEmbed
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition, linear_quadratic_schedule
from PIL import Image

from goldens_flux import start_image
from tiny_flux import REPOSITORY, default_torch_root
from tiny_ltx import T5_LENGTH, classic_schedule, condition_schedule, load

FIXTURES = REPOSITORY / "test" / "fixtures" / "ltx-video"
START_IMAGE = ("first-100x80.png", (100, 80))
# docs/source/en/api/pipelines/ltx_video.md of diffusers, the distilled models.
DISTILLED = (1000, 993, 987, 981, 975, 909, 725, 0.03)
DECODE_TIMESTEP = 0.05
DECODE_NOISE_SCALE = 0.025


@dataclass(frozen=True)
class Case:
    name: str
    prompt: str
    width: int
    height: int
    frames: int
    fps: int
    steps: int
    seed: int
    # "condition" (LTXConditionPipeline) or "classic" (LTXPipeline, LTXImageToVideoPipeline)
    mode: str = "condition"
    guidance: float = 1.0
    negative_prompt: str = ""
    # Explicit timesteps; else the pipeline's own schedule for that many steps.
    timesteps: tuple[float, ...] | None = None
    image: str | None = None
    # At the last frame, beside `image` at the first.
    last_image: str | None = None
    image_cond_noise_scale: float = 0.0
    # Sample frames of a decoded tile and from one tile to the next; null: the clip is decoded as a whole.
    tile: tuple[int, int] | None = None
    # x, y, width, height of what is kept of each frame
    crop: tuple[int, int, int, int] | None = None


IMAGE = START_IMAGE[0]
LAST_IMAGE = ("last-70x110.png", (70, 110))
CASES = (
    Case("distilled-8", "a red fox in the snow", 64, 32, 9, 30, 8, 42, timesteps=DISTILLED),
    Case("distilled-4", "waves at night", 96, 64, 17, 24, 4, 7, crop=(40, 24, 16, 16)),
    Case("guided", "a lighthouse", 64, 96, 9, 30, 5, 2147483653, guidance=3.5, negative_prompt="blurry, dark", crop=(24, 40, 16, 16)),
    Case("image-distilled", "the ball rolls away", 64, 32, 9, 30, 8, 3, timesteps=DISTILLED, image=IMAGE, crop=(24, 8, 16, 16)),
    Case(
        "first-last", "the ball rolls along", 96, 64, 17, 24, 4, 12,
        guidance=3.0, negative_prompt="blurry", image=IMAGE, last_image=LAST_IMAGE[0], image_cond_noise_scale=0.15, crop=(40, 24, 16, 16),
    ),
    Case("classic", "a city from above", 64, 64, 17, 25, 5, 5, mode="classic", guidance=3.0, negative_prompt="worst quality", crop=(24, 24, 16, 16)),
    Case("classic-image", "the sun goes down", 64, 64, 9, 25, 4, 6, mode="classic", guidance=3.0, image=IMAGE, crop=(24, 24, 16, 16)),
    Case("tiled", "a long train", 64, 32, 41, 30, 2, 8, tile=(16, 8), crop=(24, 8, 16, 16)),
    Case("tiled-wide", "a longer train", 64, 32, 57, 30, 1, 9, tile=(32, 24), crop=(24, 8, 16, 16)),
)


def pipeline_of(case: Case, loaded: LTXConditionPipeline):
    components = dict(loaded.components)
    if case.mode == "condition":
        return LTXConditionPipeline(**{**components, "scheduler": condition_schedule()})
    kind = LTXPipeline if case.image is None else LTXImageToVideoPipeline
    return kind(**{**components, "scheduler": classic_schedule()})


def record_latents(pipeline, record: list[torch.Tensor]) -> None:
    """The callback sees the latents only after each step; this also keeps those before the first."""
    prepare = type(pipeline).prepare_latents

    def recorded(*arguments, **options):
        answer = prepare(pipeline, *arguments, **options)
        record.append((answer[0] if isinstance(answer, tuple) else answer).clone())
        return answer

    pipeline.prepare_latents = recorded


def run_case(loaded: LTXConditionPipeline, case: Case, folder: Path) -> None:
    pipeline = pipeline_of(case, loaded)
    pipeline.set_progress_bar_config(disable=True)
    vae = pipeline.vae
    vae.use_framewise_decoding = case.tile is not None
    if case.tile is not None:
        vae.tile_sample_min_num_frames, vae.tile_sample_stride_num_frames = case.tile
    options = {}
    if case.timesteps is not None:
        options["timesteps"] = list(case.timesteps)
    if case.last_image is not None:
        pictures = {0: case.image, case.frames - 1: case.last_image}
        options["conditions"] = [LTXVideoCondition(image=Image.open(FIXTURES / name), frame_index=at) for at, name in pictures.items()]
    elif case.image is not None:
        options["image"] = Image.open(FIXTURES / case.image)
    if case.mode == "condition":
        options["image_cond_noise_scale"] = case.image_cond_noise_scale

    latents: list[torch.Tensor] = []
    record_latents(pipeline, latents)

    def after_step(_pipeline, _index, _timestep, tensors):
        latents.append(tensors["latents"].clone())
        return tensors

    frames = pipeline(
        prompt=case.prompt,
        negative_prompt=case.negative_prompt,
        width=case.width,
        height=case.height,
        num_frames=case.frames,
        frame_rate=case.fps,
        num_inference_steps=case.steps,
        guidance_scale=case.guidance,
        generator=torch.Generator().manual_seed(case.seed),
        decode_timestep=DECODE_TIMESTEP,
        decode_noise_scale=DECODE_NOISE_SCALE,
        max_sequence_length=T5_LENGTH,
        callback_on_step_end=after_step,
        output_type="np",
        **options,
    ).frames[0]

    stacked = torch.stack(latents)[:, 0].numpy()
    text = loaded.tokenizer([case.prompt], max_length=T5_LENGTH, padding="max_length", truncation=True)
    facts = asdict(case)
    facts |= {"t5_ids": text.input_ids[0], "t5_mask": text.attention_mask[0]}
    facts |= {"decode_timestep": DECODE_TIMESTEP, "decode_noise_scale": DECODE_NOISE_SCALE}
    facts |= {"sigmas": pipeline.scheduler.sigmas.tolist(), "model_timesteps": pipeline.scheduler.timesteps.tolist()}
    facts |= {"latent_shape": list(stacked.shape)}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
    stacked.astype("<f4").tofile(folder / "latents.f32")
    pixels = np.rint(frames * 255).astype(np.uint8)
    x, y, width, height = case.crop or (0, 0, case.width, case.height)
    kept = pixels[:, y : y + height, x : x + width].reshape(-1, width, 3)
    Image.fromarray(kept, "RGB").save(folder / "frames.png", optimize=True)
    print(f"{case.name}: {pixels.shape}, mean {pixels.mean():.0f}, deviation {pixels.std():.0f}", flush=True)


def schedules() -> list[dict]:
    """Sigmas as the pipelines set them, classic for the sizes of real clips."""
    rows = []
    for steps, tokens in ((50, 7392), (8, 96), (30, 4096)):
        scheduler = classic_schedule()
        config = scheduler.config
        mu = calculate_shift(tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        rows.append({"kind": "classic", "steps": steps, "tokens": tokens, "timesteps": None, "sigmas": scheduler.sigmas.tolist()})
    for steps in (1, 2, 3, 5, 8, 10, 40):
        scheduler = condition_schedule()
        scheduler.set_timesteps(timesteps=linear_quadratic_schedule(steps) * 1000)
        rows.append({"kind": "linear-quadratic", "steps": steps, "tokens": 0, "timesteps": None, "sigmas": scheduler.sigmas.tolist()})
    scheduler = condition_schedule()
    scheduler.set_timesteps(timesteps=list(DISTILLED))
    rows.append({"kind": "linear-quadratic", "steps": 8, "tokens": 0, "timesteps": DISTILLED, "sigmas": scheduler.sigmas.tolist()})
    return rows


def ropes() -> list[dict]:
    """Every 311th token and every 31st angle of the tables, for both ways to place the tokens."""
    rows = []
    for width, mode, fps in ((32, "condition", 30), (2048, "classic", 25), (4096, "condition", 30)):
        frames, high, wide = 16, 11, 15
        rope, hidden = LTXVideoRotaryPosEmbed(dim=width), torch.zeros(1, 1, 1)
        if mode == "classic":
            cos, sin = rope(hidden, frames, high, wide, (8 / fps, 32, 32))
        else:
            ids = LTXConditionPipeline._prepare_video_ids(1, frames, high, wide)
            coordinates = LTXConditionPipeline._scale_video_ids(ids, 32, 8).float()
            coordinates[:, 0] = coordinates[:, 0] * (1.0 / fps)
            cos, sin = rope(hidden, video_coords=coordinates)
        half_cos, half_sin = cos[0, :, ::2], sin[0, :, ::2]
        assert torch.equal(half_cos, cos[0, :, 1::2]) and torch.equal(half_sin, sin[0, :, 1::2])
        picked = {"cos": half_cos[::311, ::31].tolist(), "sin": half_sin[::311, ::31].tolist()}
        rows.append({"width": width, "mode": mode, "fps": fps, "frames": frames, "height": high, "columns": wide} | picked)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases; default: all")
    parser.add_argument("--torch", type=Path, default=default_torch_root(), help="where tiny_ltx.py saved the torch pipeline")
    options = parser.parse_args()
    known = {case.name: case for case in CASES}
    for name in options.names:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, size in (START_IMAGE, LAST_IMAGE):
        start_image(*size).save(FIXTURES / name, optimize=True)
    tables = {"schedules": schedules(), "ropes": ropes()}
    (FIXTURES / "tables.json").write_text(json.dumps(tables) + "\n", encoding="utf-8")
    loaded = load(options.torch)
    for name in options.names or known:
        run_case(loaded, known[name], FIXTURES / name)


if __name__ == "__main__":
    main()
