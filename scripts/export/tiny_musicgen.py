"""Exports a tiny MusicGen with random weights and its goldens, in the layout of Xenova/musicgen-small.

    python tiny_musicgen.py [--models DIR] [--fixtures DIR]

The class is transformers' MusicgenForConditionalGeneration, written by the Optimum exporter; the two graphs of the decoder are merged as
transformers.js expects them (`use_cache_branch`). Widths, depths and the number of codes are small; the four codebooks with their delays,
EnCodec's 50 frames a second and the projection between text and decoder are as in facebook/musicgen-small.
"""

import argparse
import json
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from optimum.exporters.onnx import main_export
from optimum.onnx import merge_decoders
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
    T5TokenizerFast,
)

REPOSITORY = Path(__file__).resolve().parents[2]
OPSET = 18
CODES = 64
CASES = (
    # name, caption, guidance, new tokens (frames + 3), seed (None: greedy), top_k
    ("guided", "a calm piano over slow rain", 3.0, 28, None, 1),
    ("plain", "drums", 1.0, 19, None, 1),
    ("empty", "", 3.0, 11, None, 1),
    ("sampled", "a calm piano over slow rain", 3.0, 28, 7, 250),
    ("sampled-few", "drums", 1.0, 40, 4_000_000_000, 8),
)


def codec(codes: int, kilobits: float) -> EncodecConfig:
    """EnCodec as MusicGen has it, at small widths: 4 codebooks at 50 frames a second, which makes so many kilobits a second."""
    return EncodecConfig(
        target_bandwidths=[kilobits],
        sampling_rate=32_000,
        audio_channels=1,
        normalize=False,
        num_filters=4,
        num_residual_layers=1,
        upsampling_ratios=[8, 5, 4, 4],
        num_lstm_layers=1,
        codebook_size=codes,
        codebook_dim=16,
        hidden_size=16,
        use_causal_conv=False,
        chunk_length_s=None,
        overlap=None,
    )


def tiny_model(vocabulary: int) -> MusicgenForConditionalGeneration:
    torch.manual_seed(31)
    text = T5Config(vocab_size=vocabulary, d_model=24, d_kv=8, d_ff=37, num_layers=1, num_heads=3, dropout_rate=0.0)
    # 4 codebooks of 64 codes at 50 frames a second.
    audio = codec(CODES, 1.2)
    decoder = MusicgenDecoderConfig(
        vocab_size=CODES,
        num_hidden_layers=2,
        ffn_dim=48,
        num_attention_heads=4,
        hidden_size=32,
        num_codebooks=4,
        max_position_embeddings=2_048,
        pad_token_id=CODES,
        bos_token_id=CODES,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )
    model = MusicgenForConditionalGeneration(MusicgenConfig.from_sub_models_config(text, audio, decoder)).eval()
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(std=1.2 / math.sqrt(module.weight.shape[1]))
            elif isinstance(module, torch.nn.Embedding):
                module.weight.normal_(std=1.0)
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.normal_(std=1.0)
    for field in ("decoder_start_token_id", "pad_token_id", "bos_token_id"):
        setattr(model.generation_config, field, CODES)
    return model


def write_model(folder: Path, model: MusicgenForConditionalGeneration, tokenizer: T5TokenizerFast) -> None:
    with tempfile.TemporaryDirectory() as work:
        torch_folder, onnx_folder = Path(work) / "torch", Path(work) / "onnx"
        model.save_pretrained(torch_folder)
        tokenizer.save_pretrained(torch_folder)
        main_export(str(torch_folder), output=str(onnx_folder), task="text-to-audio", opset=OPSET, do_validation=False)
        (folder / "onnx").mkdir(parents=True, exist_ok=True)
        merge_decoders(
            onnx_folder / "decoder_model.onnx",
            onnx_folder / "decoder_with_past_model.onnx",
            save_path=folder / "onnx" / "decoder_model_merged.onnx",
            # Only the first run gives the keys and values of the text.
            strict=False,
        )
        for name in ("text_encoder.onnx", "encodec_decode.onnx"):
            shutil.copy(onnx_folder / name, folder / "onnx" / name)
        for name in ("config.json", "generation_config.json", "tokenizer.json", "special_tokens_map.json"):
            shutil.copy(onnx_folder / name, folder / name)


def goldens(folder: Path, model: MusicgenForConditionalGeneration, tokenizer: T5TokenizerFast) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    codes_seen: list[torch.Tensor] = []
    decode = model.audio_encoder.decode

    def spying(audio_codes, *rest, **options):
        codes_seen.append(audio_codes)
        return decode(audio_codes, *rest, **options)

    model.audio_encoder.decode = spying
    for name, caption, guidance, new_tokens, seed, top_k in CASES:
        inputs = tokenizer([caption], return_tensors="pt")
        codes_seen.clear()
        sampling = {"do_sample": False} if seed is None else {"do_sample": True, "top_k": top_k, "temperature": 1.0}
        torch.manual_seed(seed or 0)
        waveform = model.generate(**inputs, **sampling, guidance_scale=guidance, max_new_tokens=new_tokens)[0, 0].numpy()
        codes = codes_seen[0].reshape(4, -1).tolist()
        waveform.astype(np.float16).tofile(folder / f"{name}.f16")
        ids = inputs["input_ids"][0].tolist()
        case = {"name": name, "caption": caption, "ids": ids, "guidance": guidance, "frames": new_tokens - 3, "codes": codes, "seed": seed, "top_k": top_k}
        cases.append(case | {"samples": len(waveform), "peak": float(np.abs(waveform).max())})
    (folder / "cases.json").write_text(json.dumps(cases, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models")
    parser.add_argument("--fixtures", type=Path, default=REPOSITORY / "test" / "fixtures" / "musicgen")
    arguments = parser.parse_args()
    tokenizer = T5TokenizerFast.from_pretrained(arguments.models / "tiny-flux-schnell" / "tokenizer_2")
    model = tiny_model(len(tokenizer))
    write_model(arguments.models / "tiny-musicgen", model, tokenizer)
    goldens(arguments.fixtures, model, tokenizer)


if __name__ == "__main__":
    main()
