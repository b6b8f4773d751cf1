"""Exports graphs of real sizes without weights, for scripts/bench/gpu: FLUX.1 and Whisper large.

    python geometry.py [flux] [whisper] [--small] [--precision float16|float32] [--into DIR]

The classes and sizes are those of black-forest-labs/FLUX.1-schnell and openai/whisper-large-v3; `--small` keeps the classes, the kinds of
layers and the names, at widths that a processor runs in a moment. DIR is .cache/geometry by default: some MB. The weights are drawn
there by scripts/bench/gpu/fill-weights.ts (24 GB and more for flux), so that only the graphs travel to a machine with a GPU.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from optimum.exporters.onnx import onnx_export_from_model
from optimum.onnx import merge_decoders
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from structure import attach_weights, halve, hollow, without_weights, write_weights
from tiny_flux import OPSET, REPOSITORY

TOKENIZERS = REPOSITORY / "models" / "tiny-flux-schnell"


@dataclass(frozen=True)
class FluxSizes:
    double_blocks: int
    single_blocks: int
    heads: int
    head_size: int
    rope: tuple[int, int, int]
    t5_width: int
    t5_heads: int
    t5_inner: int
    t5_layers: int
    clip_width: int
    clip_heads: int
    clip_inner: int
    clip_layers: int
    vae_channels: tuple[int, int, int, int]
    vae_groups: int


FLUX = FluxSizes(19, 38, 24, 128, (16, 56, 56), 4096, 64, 10240, 24, 768, 12, 3072, 12, (128, 256, 512, 512), 32)
FLUX_SMALL = FluxSizes(2, 2, 4, 32, (8, 12, 12), 64, 4, 96, 2, 32, 4, 64, 2, (8, 16, 16, 16), 4)


def flux_modules(sizes: FluxSizes) -> dict:
    """Makers of the real classes, by part."""
    return {
        "transformer": lambda: FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=sizes.double_blocks,
            num_single_layers=sizes.single_blocks,
            attention_head_dim=sizes.head_size,
            num_attention_heads=sizes.heads,
            joint_attention_dim=sizes.t5_width,
            pooled_projection_dim=sizes.clip_width,
            guidance_embeds=False,
            axes_dims_rope=sizes.rope,
        ),
        "text_encoder": lambda: CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49_408,
                hidden_size=sizes.clip_width,
                intermediate_size=sizes.clip_inner,
                projection_dim=sizes.clip_width,
                num_hidden_layers=sizes.clip_layers,
                num_attention_heads=sizes.clip_heads,
                max_position_embeddings=77,
                hidden_act="quick_gelu",
                bos_token_id=0,
                eos_token_id=2,
                pad_token_id=1,
            )
        ),
        "text_encoder_2": lambda: T5EncoderModel(
            T5Config(
                vocab_size=32_128,
                d_model=sizes.t5_width,
                d_kv=sizes.t5_width // sizes.t5_heads,
                d_ff=sizes.t5_inner,
                num_layers=sizes.t5_layers,
                num_heads=sizes.t5_heads,
                feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
                use_cache=False,
            )
        ),
        "vae": lambda: AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=sizes.vae_channels,
            layers_per_block=2,
            norm_num_groups=sizes.vae_groups,
            latent_channels=16,
            sample_size=1024,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
    }


def whisper_config(small: bool) -> WhisperConfig:
    width, heads, inner, layers = (64, 4, 96, 2) if small else (1280, 20, 5120, 32)
    return WhisperConfig(
        vocab_size=51_866,
        num_mel_bins=128,
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=inner,
        decoder_layers=layers,
        decoder_attention_heads=heads,
        decoder_ffn_dim=inner,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


FLUX_INPUTS = {
    "text_encoder": {"input_ids"},
    "text_encoder_2": {"input_ids"},
    "transformer": {"hidden_states", "encoder_hidden_states", "pooled_projections", "timestep", "img_ids", "txt_ids"},
    "vae_decoder": {"latent_sample"},
}


ENCODER_INPUTS = {"input_features"}


def export_flux(folder: Path, small: bool, precision: str) -> None:
    sizes = FLUX_SMALL if small else FLUX
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZERS / "tokenizer"),
        tokenizer_2=T5TokenizerFast.from_pretrained(TOKENIZERS / "tokenizer_2"),
        **{part: hollow(make) for part, make in flux_modules(sizes).items()},
    )
    with without_weights():
        onnx_export_from_model(
            pipeline,
            output=folder,
            task="text-to-image",
            opset=OPSET,
            do_validation=False,
            no_post_process=True,
            # Sizes of what is traced, not of what can be run.
            batch_size=2,
            height=16,
            width=16,
            sequence_length=8,
        )
    shutil.rmtree(folder / "vae_encoder")
    if precision == "float16":
        for part, inputs in FLUX_INPUTS.items():
            halve(folder / part / "model.onnx", inputs)
    weights = {f"{part}/model.onnx": attach_weights(folder / part / "model.onnx", inputs) for part, inputs in FLUX_INPUTS.items()}
    write_weights(folder, weights)
    (folder / "geometry.json").write_text(json.dumps({"family": "flux", "small": small, "precision": precision, **asdict(sizes)}) + "\n", encoding="utf-8")


def export_whisper(folder: Path, small: bool, precision: str) -> None:
    config = whisper_config(small)
    model = hollow(lambda: WhisperForConditionalGeneration(config))
    sides = [f"{side}.{kind}" for side in ("decoder", "encoder") for kind in ("key", "value")]
    cache = {f"past_key_values.{layer}.{side}" for layer in range(config.decoder_layers) for side in sides}
    decoder_inputs = {"input_ids", "encoder_hidden_states", "use_cache_branch", *cache}
    with tempfile.TemporaryDirectory() as work:
        made = Path(work)
        with without_weights():
            onnx_export_from_model(
                model, output=made, task="automatic-speech-recognition-with-past", opset=OPSET, do_validation=False, no_post_process=True
            )
        if precision == "float16":
            halve(made / "encoder_model.onnx", ENCODER_INPUTS)
            for file in ("decoder_model.onnx", "decoder_with_past_model.onnx"):
                halve(made / file, decoder_inputs)
        target = folder / "onnx"
        target.mkdir(parents=True)
        (made / "encoder_model.onnx").rename(target / "encoder_model.onnx")
        merge_decoders(
            made / "decoder_model.onnx", made / "decoder_with_past_model.onnx", save_path=target / "decoder_model_merged.onnx", strict=False
        )
    inputs = {"onnx/encoder_model.onnx": ENCODER_INPUTS, "onnx/decoder_model_merged.onnx": decoder_inputs}
    write_weights(folder, {file: attach_weights(folder / file, names) for file, names in inputs.items()})
    sizes = {"layers": config.decoder_layers, "heads": config.decoder_attention_heads, "width": config.d_model, "vocabulary": config.vocab_size}
    (folder / "geometry.json").write_text(json.dumps({"family": "whisper", "small": small, "precision": precision, **sizes}) + "\n", encoding="utf-8")


EXPORTS = {"flux": export_flux, "whisper": export_whisper}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"default: all of {', '.join(EXPORTS)}")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--precision", choices=("float16", "float32"), help="of the weights; default: float16, with --small float32")
    parser.add_argument("--into", type=Path, default=REPOSITORY / ".cache" / "geometry")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    for name in options.names or EXPORTS:
        if name not in EXPORTS:
            parser.error(f"{name!r} is none of {', '.join(EXPORTS)}")
        folder = options.into / (f"{name}-small" if options.small else name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        EXPORTS[name](folder, options.small, options.precision or ("float32" if options.small else "float16"))
        print(f"{name}: {folder}")


if __name__ == "__main__":
    main()
