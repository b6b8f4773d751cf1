"""Exports the tiny speech model and its goldens: random weights in transformers' VitsModel, written by the Optimum exporter.

    python tiny_vits.py [--models DIR] [--fixtures DIR]

Everything but widths, depths and weights is as in facebook/mms-tts-eng: classes, character tokenizer with blanks, sampling rate, hop of
256 samples. The two noise scales are 0, so that the graph is deterministic and a waveform can be compared sample by sample.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch
from optimum.exporters.onnx import main_export
from transformers import VitsConfig, VitsModel, VitsTokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
OPSET = 18
# As in mms-tts-eng: the blank has id 0, and the last id is the unknown token.
CHARACTERS = ["k", "'", "z", "y", "u", "d", "h", "e", "s", "w", "–", "3", "c", "p", "-", "1", "j", "m", "i", " ", "f", "l", "o", "0", "b"]
CHARACTERS += ["r", "a", "4", "2", "n", "_", "x", "v", "t", "q", "5", "6", "g"]
TEXTS = {
    "short": "A red fox.",
    "case": "HELLO World, it's 4 o'clock - tea TIME!",
    "unknown": "Café № 5 – naïve façade 東京",
    "added": "kick back, kkk",
    "long": "The lighthouse keeper counted twenty waves and then went up to light the lamp",
}


def tokenizer_in(folder: Path) -> VitsTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {character: number for number, character in enumerate(CHARACTERS)} | {"<unk>": len(CHARACTERS)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    made = VitsTokenizer(
        vocab_file=str(folder / "vocab.json"),
        pad_token="k",
        unk_token="<unk>",
        language="eng",
        add_blank=True,
        normalize=True,
        phonemize=False,
        is_uroman=False,
    )
    made.save_pretrained(folder)
    return made


def tiny_model(vocabulary_size: int) -> VitsModel:
    torch.manual_seed(11)
    config = VitsConfig(
        vocab_size=vocabulary_size,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=32,
        flow_size=24,
        spectrogram_bins=33,
        duration_predictor_num_flows=2,
        duration_predictor_filter_channels=16,
        depth_separable_num_layers=1,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        wavenet_dropout=0.0,
        upsample_initial_channel=32,
        upsample_rates=[8, 8, 2, 2],
        upsample_kernel_sizes=[16, 16, 4, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        noise_scale=0.0,
        noise_scale_duration=0.0,
        sampling_rate=16000,
    )
    model = VitsModel(config).eval()
    # The classes' first weights are so small that every text would give silence.
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, (torch.nn.Conv1d, torch.nn.ConvTranspose1d, torch.nn.Linear)):
                weight = module.weight
                weight.normal_(std=0.9 / math.sqrt(weight[0].numel()))
            elif isinstance(module, torch.nn.Embedding):
                module.weight.normal_(std=1.0)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models")
    parser.add_argument("--fixtures", type=Path, default=REPOSITORY / "test" / "fixtures" / "vits")
    arguments = parser.parse_args()
    folder = arguments.models / "tiny-vits"
    work = folder / "torch"
    tokenizer = tokenizer_in(work)
    model = tiny_model(len(tokenizer))
    model.save_pretrained(work)
    main_export(str(work), output=str(folder), task="text-to-audio", opset=OPSET, do_validation=False)
    for name in ("model.onnx", "vocab.json", "tokenizer_config.json", "config.json"):
        assert (folder / name).exists(), name
    shutil.rmtree(work)
    for name in ("special_tokens_map.json", "added_tokens.json"):
        (folder / name).unlink(missing_ok=True)
    goldens(arguments.fixtures, tokenizer, model)


def goldens(folder: Path, tokenizer: VitsTokenizer, model: VitsModel) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cases = {}
    for name, text in TEXTS.items():
        inputs = tokenizer(text, return_tensors="pt")
        cases[name] = {"text": text, "ids": inputs["input_ids"][0].tolist()}
        with torch.no_grad():
            waveform = model(**inputs).waveform[0].numpy().astype(np.float32)
        cases[name] |= {"samples": len(waveform), "rms": float(np.sqrt((waveform**2).mean()))}
        if name == "short":
            waveform.tofile(folder / "short.f32")
    (folder / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
