"""Exports decoders of real sizes with random weights, for scripts/bench: `decoder_model_merged.onnx` as Optimum writes it.

    python decoder_geometry.py [whisper-base] [musicgen-small] [--into DIR]

The classes, sizes and names of tensors are those of openai/whisper-base and facebook/musicgen-small; the weights are drawn, so that nothing
has to be fetched. DIR is .cache/bench by default; the files are not committed (0.4 and 1.9 GB).
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from optimum.exporters.onnx import main_export
from optimum.onnx import merge_decoders
from transformers import (
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
    T5TokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from tiny_flux import REPOSITORY
from tiny_musicgen import codec
from tiny_whisper import OPSET, VARIANTS, tokenizer as whisper_tokenizer


def whisper_base(folder: Path) -> str:
    """6 + 6 layers of width 512 and 8 heads, 80 mel bins, 51,865 tokens."""
    config = WhisperConfig(
        vocab_size=51_865,
        num_mel_bins=80,
        d_model=512,
        encoder_layers=6,
        encoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_layers=6,
        decoder_attention_heads=8,
        decoder_ffn_dim=2048,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    words = whisper_tokenizer(VARIANTS["tiny-whisper"])
    WhisperProcessor(feature_extractor=WhisperFeatureExtractor(feature_size=80), tokenizer=words).save_pretrained(folder)
    return "automatic-speech-recognition-with-past"


def musicgen_small(folder: Path) -> str:
    """24 layers of width 1024 and 16 heads, 4 codebooks of 2,048; T5 and EnCodec are only there because the class wants them."""
    text = T5Config(vocab_size=256, d_model=768, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
    decoder = MusicgenDecoderConfig(
        vocab_size=2_048,
        hidden_size=1_024,
        ffn_dim=4_096,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_codebooks=4,
        pad_token_id=2_048,
        bos_token_id=2_048,
    )
    model = MusicgenForConditionalGeneration(MusicgenConfig.from_sub_models_config(text, codec(2_048, 2.2), decoder))
    for field in ("decoder_start_token_id", "pad_token_id", "bos_token_id"):
        setattr(model.generation_config, field, 2_048)
    model.save_pretrained(folder)
    T5TokenizerFast.from_pretrained(REPOSITORY / "models" / "tiny-flux-schnell" / "tokenizer_2").save_pretrained(folder)
    return "text-to-audio"


GEOMETRIES = {"whisper-base": whisper_base, "musicgen-small": musicgen_small}


def export(name: str, target: Path) -> None:
    torch.manual_seed(7)
    with tempfile.TemporaryDirectory() as work:
        torch_folder, made = Path(work) / "torch", Path(work) / "onnx"
        task = GEOMETRIES[name](torch_folder)
        main_export(str(torch_folder), output=made, task=task, opset=OPSET, do_validation=False, no_post_process=True)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        merge_decoders(
            made / "decoder_model.onnx",
            made / "decoder_with_past_model.onnx",
            save_path=target / "decoder_model_merged.onnx",
            # Only the first run gives the keys and values of the encoder's output.
            strict=False,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"default: all of {', '.join(GEOMETRIES)}")
    parser.add_argument("--into", type=Path, default=REPOSITORY / ".cache" / "bench", help="where the exports go, one folder per geometry")
    options = parser.parse_args()
    for name in options.names or GEOMETRIES:
        if name not in GEOMETRIES:
            parser.error(f"{name!r} is none of {', '.join(GEOMETRIES)}")
        export(name, options.into / name)
        print(f"{name}: {options.into / name}")


if __name__ == "__main__":
    main()
