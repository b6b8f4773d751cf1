"""Golden outputs of the real diffusers pipelines for the tiny models: float32 torch modules on the CPU.

    python goldens_flux.py [case ...] [--torch DIR]

Each case becomes a folder with case.json, latents.f32 and image.png (image-0.png, image-1.png for a batch); see README.md.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline
from PIL import Image, ImageDraw

from flux_cases import CASES, Case
from tiny_flux import REPOSITORY, VARIANTS, default_torch_root, load

FIXTURES = REPOSITORY / "test" / "fixtures" / "flux"
START_IMAGES = {"init-128.png": (128, 128), "init-200x150.png": (200, 150)}


def start_image(width: int, height: int) -> Image.Image:
    """A smooth ground with hard shapes on it: edges show a wrong resize, the gradient a wrong range. Drawn at 4x and not random."""
    down, across = np.mgrid[0:height, 0:width]
    ground = np.stack([across * 255 // (width - 1), down * 255 // (height - 1), 255 - across * 255 // (width - 1)], axis=-1)
    image = Image.fromarray(ground.astype(np.uint8), "RGB")
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.1, height * 0.15, width * 0.5, height * 0.75), fill=(250, 240, 30))
    draw.rectangle((width * 0.55, height * 0.3, width * 0.9, height * 0.85), fill=(20, 30, 90))
    draw.line((0, height - 1, width - 1, 0), fill=(255, 255, 255), width=3)
    return image


def record_latents(pipeline: FluxPipeline, record: list[torch.Tensor]) -> None:
    """The callback sees the latents only after each step; this also keeps those before the first."""
    prepare = type(pipeline).prepare_latents

    def recorded(*arguments, **options):
        answer = prepare(pipeline, *arguments, **options)
        record.append(answer[0].clone())
        return answer

    pipeline.prepare_latents = recorded


def ids(pipeline: FluxPipeline, case: Case, t5_length: int) -> dict[str, list]:
    """Token ids as FluxPipeline.encode_prompt makes them, one row per prompt."""
    common = {"padding": "max_length", "truncation": True}
    return {
        "clip_ids": pipeline.tokenizer(list(case.prompts), max_length=pipeline.tokenizer_max_length, **common).input_ids,
        "t5_ids": pipeline.tokenizer_2(list(case.prompts), max_length=t5_length, **common).input_ids,
    }


def unwrap(rows: list | tuple):
    """A single job's value stands alone; a batch's values are a list."""
    return rows[0] if len(rows) == 1 else list(rows)


def run_case(pipeline: FluxPipeline, case: Case, folder: Path) -> None:
    t5_length = VARIANTS[case.model].t5_length
    options = {"guidance_scale": case.guidance, "max_sequence_length": t5_length}
    if case.strength is not None:
        pipeline = FluxImg2ImgPipeline(**pipeline.components)
        options |= {"image": Image.open(FIXTURES / case.image), "strength": case.strength}
    pipeline.set_progress_bar_config(disable=True)
    latents: list[torch.Tensor] = []
    record_latents(pipeline, latents)

    def after_step(_pipeline, _index, _timestep, tensors):
        latents.append(tensors["latents"].clone())
        return tensors

    generators = [torch.Generator().manual_seed(seed) for seed in case.seeds]
    images = pipeline(
        list(case.prompts),
        width=case.width,
        height=case.height,
        num_inference_steps=case.steps,
        generator=unwrap(generators),
        callback_on_step_end=after_step,
        **options,
    ).images

    stacked = torch.stack(latents).numpy()
    schedule = pipeline.scheduler
    facts = {
        "model": case.model,
        "task": case.task,
        "prompt": unwrap(case.prompts),
        "width": case.width,
        "height": case.height,
        "steps": case.steps,
        "guidance": case.guidance,
        "seed": unwrap(case.seeds),
    }
    if case.strength is not None:
        facts |= {"strength": case.strength, "image": case.image, "t_start": len(schedule.timesteps) - (len(latents) - 1)}
    facts["max_sequence_length"] = t5_length
    facts |= {name: unwrap(rows) for name, rows in ids(pipeline, case, t5_length).items()}
    facts |= {"sigmas": schedule.sigmas.tolist(), "timesteps": schedule.timesteps.tolist()}
    if schedule.config.use_dynamic_shifting:
        facts["mu"] = shift_exponent(schedule.config, tokens=stacked.shape[2])
    facts |= {"latent_shape": list(stacked.shape), "notes": case.notes}

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
    stacked.astype("<f4").tofile(folder / "latents.f32")
    for index, image in enumerate(images):
        image.save(folder / ("image.png" if len(images) == 1 else f"image-{index}.png"), optimize=True)


def shift_exponent(config, tokens: int) -> float:
    """diffusers' calculate_shift (pipeline_flux.py), from the schedule's own configuration."""
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return tokens * slope + config.base_shift - slope * config.base_image_seq_len


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases; default: all")
    parser.add_argument("--torch", type=Path, default=default_torch_root(), help="where tiny_flux.py saved the torch pipelines")
    options = parser.parse_args()
    known = {case.name: case for case in CASES}
    for name in options.names:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")

    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, size in START_IMAGES.items():
        start_image(*size).save(FIXTURES / name, optimize=True)
    pipelines = {}
    for case in (known[name] for name in options.names or known):
        if case.model not in pipelines:
            pipelines[case.model] = load(case.model, options.torch)
        run_case(pipelines[case.model], case, FIXTURES / case.name)
        print(case.name, flush=True)


if __name__ == "__main__":
    main()
