"""Exports the tiny Flux pipelines: random weights in the real diffusers and transformers classes, written by the Optimum exporter.

    python tiny_flux.py [tiny-flux-schnell] [tiny-flux-dev] [--models DIR] [--torch DIR]

Everything but the weights and the widths is as in black-forest-labs' repositories: classes, number of latent channels, scale factor,
VAE scaling and shift, schedules, tokenizer files, text lengths, pooling rule.
"""

import argparse
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from optimum.exporters.onnx import main_export
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from tiny_tokenizers import CLIP_LENGTH, train_clip, train_t5

REPOSITORY = Path(__file__).resolve().parents[2]
OPSET = 18
TEXT_WIDTH = 32
TEXT_SHARPNESS = 4.0


@dataclass(frozen=True)
class Variant:
    """What tells schnell from dev, and one seed so that the two have different weights."""

    name: str
    seed: int
    guidance: bool
    dynamic_shift: bool
    t5_length: int
    double_blocks: int
    single_blocks: int


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("tiny-flux-schnell", 1, guidance=False, dynamic_shift=False, t5_length=256, double_blocks=1, single_blocks=1),
        Variant("tiny-flux-dev", 2, guidance=True, dynamic_shift=True, t5_length=512, double_blocks=1, single_blocks=2),
    )
}


def spread(module: torch.nn.Module, gain: float) -> None:
    """Draws all weight matrices anew with a standard deviation of gain / sqrt(inputs).

    The classes' own first weights are made for training: so small that every prompt would give nearly the same picture.
    Every value is one that float16 holds exactly, so that half-precision copies of an export (bfl_layout.py) lose nothing.
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.Embedding):
                part.weight.normal_(std=gain)
            elif isinstance(part, (torch.nn.Linear, torch.nn.Conv2d)):
                part.weight.normal_(std=gain / math.sqrt(part.weight[0].numel()))
                if part.bias is not None:
                    part.bias.normal_(std=0.05)
        for weight in module.parameters():
            weight.copy_(weight.half())


def clip_encoder(vocabulary_size: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=TEXT_WIDTH,
        intermediate_size=37,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=CLIP_LENGTH,
        hidden_act="quick_gelu",
        # As in the real repositories: with eos_token_id 2 the pooled row is the ArgMax of the ids, the first end of text.
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    model = CLIPTextModel(config)
    spread(model, 1.0)
    return model


def t5_encoder(vocabulary_size: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=vocabulary_size,
        d_model=TEXT_WIDTH,
        d_kv=8,
        num_heads=4,
        d_ff=37,
        num_layers=1,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        use_cache=False,
    )
    model = T5EncoderModel(config)
    spread(model, 1.0)
    return model


def transformer(variant: Variant) -> FluxTransformer2DModel:
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=variant.double_blocks,
        num_single_layers=variant.single_blocks,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=variant.guidance,
        axes_dims_rope=(4, 4, 8),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Sharper attention to the text, else ten words among 246 paddings would change nothing that one can see.
            if name.endswith("norm_added_k.weight"):
                weight.fill_(TEXT_SHARPNESS)
    spread(model, 1.0)
    return model


def autoencoder() -> AutoencoderKL:
    levels = 4
    model = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=16,
        sample_size=128,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
    )
    spread(model, 1.0)
    return model


def schedule(variant: Variant) -> FlowMatchEulerDiscreteScheduler:
    """The two schedules of the real repositories; with dynamic shifting `shift` is written there but has no effect."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0 if variant.dynamic_shift else 1.0,
        use_dynamic_shifting=variant.dynamic_shift,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def build_pipeline(variant: Variant, folder: Path) -> FluxPipeline:
    """Makes the pipeline and saves it under `folder` as `FluxPipeline.from_pretrained` reads it."""
    shutil.rmtree(folder, ignore_errors=True)
    clip_tokenizer = train_clip(folder / "tokenizer")
    t5_tokenizer = train_t5(folder / "tokenizer_2", variant.t5_length)

    # One seed per module: a change in one leaves the weights of the others as they were.
    makers = {
        "text_encoder": lambda: clip_encoder(len(clip_tokenizer)),
        "text_encoder_2": lambda: t5_encoder(len(t5_tokenizer)),
        "transformer": lambda: transformer(variant),
        "vae": autoencoder,
    }
    modules = {}
    for index, (part, make) in enumerate(makers.items()):
        torch.manual_seed(variant.seed * 100 + index)
        modules[part] = make().eval().requires_grad_(False)

    pipeline = FluxPipeline(scheduler=schedule(variant), tokenizer=clip_tokenizer, tokenizer_2=t5_tokenizer, **modules)
    pipeline.save_pretrained(folder)
    return pipeline


def export(variant: Variant, torch_folder: Path, target: Path) -> None:
    """Runs the user's own command, `optimum-cli export onnx`, and keeps what else lies in the target (model.json)."""
    parts = ("text_encoder", "text_encoder_2", "transformer", "vae_encoder", "vae_decoder", "tokenizer", "tokenizer_2", "scheduler")
    for part in parts:
        shutil.rmtree(target / part, ignore_errors=True)
    main_export(str(torch_folder), output=target, task="text-to-image", opset=OPSET, do_validation=True, dtype="fp32")
    for file in target.glob("**/*.json"):
        if file.parent == target and file.name != "model_index.json":
            continue
        value = json.loads(file.read_text(encoding="utf-8"))
        if value.pop("_name_or_path", None) is not None:
            # The folder of this machine that the torch pipeline came from says nothing to anyone else.
            file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def load(name: str, torch_root: Path) -> FluxPipeline:
    """The torch pipeline behind a committed export; made anew (the same weights for the same torch) when it is not there."""
    folder = torch_root / name
    if not (folder / "model_index.json").exists():
        build_pipeline(VARIANTS[name], folder)
    return FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)


def default_torch_root() -> Path:
    return Path.home() / ".cache" / "dryapi-export"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"default: all of {', '.join(VARIANTS)}")
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models", help="where the exports go, one folder per model")
    parser.add_argument("--torch", type=Path, default=default_torch_root(), help="where the torch pipelines are saved")
    options = parser.parse_args()
    for name in options.names or VARIANTS:
        if name not in VARIANTS:
            parser.error(f"{name!r} is none of {', '.join(VARIANTS)}")
        build_pipeline(VARIANTS[name], options.torch / name)
        export(VARIANTS[name], options.torch / name, options.models / name)
        size = sum(file.stat().st_size for file in (options.models / name).rglob("*") if file.is_file())
        print(f"{name}: {size / 1e6:.2f} MB in {options.models / name}")


if __name__ == "__main__":
    main()
