"""Exports the tiny LTX-Video pipeline: random weights in the real diffusers and transformers classes.

    python tiny_ltx.py [--models DIR] [--torch DIR]

Everything but the weights and the widths is as in Lightricks' 0.9.7 and 0.9.8: classes, kinds of blocks, 128 latent channels with
statistics of their own, factors 32 and 8, timestep-conditioned decoder, schedule, tokenizer. `scheduler_classic` is the schedule of 0.9.0.
"""

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXConditionPipeline, LTXVideoTransformer3DModel

from ltx_graphs import export_pipeline
from tiny_flux import REPOSITORY, TEXT_WIDTH, default_torch_root, spread, t5_encoder
from tiny_tokenizers import train_t5

NAME = "tiny-ltx-video"
T5_LENGTH = 64
TEXT_SHARPNESS = 4.0


def transformer() -> LTXVideoTransformer3DModel:
    model = LTXVideoTransformer3DModel(
        in_channels=128,
        out_channels=128,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=TEXT_WIDTH,
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("attn2.norm_k.weight"):
                weight.fill_(TEXT_SHARPNESS)
    spread(model, 1.0)
    return model


def autoencoder() -> AutoencoderKLLTXVideo:
    model = AutoencoderKLLTXVideo(
        latent_channels=128,
        block_out_channels=(4, 4, 8, 8, 8),
        down_block_types=("LTXVideo095DownBlock3D",) * 4,
        decoder_block_out_channels=(8, 8, 16),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, True),
        decoder_spatio_temporal_scaling=(True, True, True),
        decoder_inject_noise=(False, False, False, False),
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        upsample_residual=(True, True, True),
        upsample_factor=(1, 1, 2),
        timestep_conditioning=True,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    spread(model, 1.0)
    spread_convolutions(model)
    with torch.no_grad():
        model.latents_mean.copy_(torch.randn(128) * 0.3)
        model.latents_std.copy_(torch.rand(128) + 0.5)
    return model


def spread_convolutions(module: torch.nn.Module) -> None:
    """`spread` knows no Conv3d: the same for them, and a last layer that fills the range of a picture."""
    with torch.no_grad():
        for name, part in module.named_modules():
            if isinstance(part, torch.nn.Conv3d):
                gain = 0.6 if name == "decoder.conv_out.conv" else 1.0
                part.weight.normal_(std=gain / part.weight[0].numel() ** 0.5)
                part.bias.normal_(std=0.05)
                part.weight.copy_(part.weight.half())
                part.bias.copy_(part.bias.half())


def condition_schedule() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False)


def classic_schedule() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=1.0,
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )


def build_pipeline(folder: Path) -> LTXConditionPipeline:
    """Makes the pipeline and saves it under `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = train_t5(folder / "tokenizer", T5_LENGTH)
    makers = {"text_encoder": lambda: t5_encoder(len(tokenizer)), "transformer": transformer, "vae": autoencoder}
    modules = {}
    for index, (part, make) in enumerate(makers.items()):
        torch.manual_seed(300 + index)
        modules[part] = make().eval().requires_grad_(False)
    pipeline = LTXConditionPipeline(scheduler=condition_schedule(), tokenizer=tokenizer, **modules)
    pipeline.save_pretrained(folder)
    return pipeline


def load(torch_root: Path) -> LTXConditionPipeline:
    folder = torch_root / NAME
    if not (folder / "model_index.json").exists():
        build_pipeline(folder)
    return LTXConditionPipeline.from_pretrained(folder, torch_dtype=torch.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models", help="where the export goes, in a folder of its own")
    parser.add_argument("--torch", type=Path, default=default_torch_root(), help="where the torch pipeline is saved")
    options = parser.parse_args()
    build_pipeline(options.torch / NAME)
    target = options.models / NAME
    with torch.inference_mode():
        export_pipeline(load(options.torch), target)
    # What only the slow tokenizer reads.
    (target / "tokenizer" / "spiece.model").unlink(missing_ok=True)
    shutil.rmtree(target / "scheduler_classic", ignore_errors=True)
    classic_schedule().save_pretrained(target / "scheduler_classic")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{NAME}: {size / 1e6:.2f} MB in {target}")


if __name__ == "__main__":
    main()
