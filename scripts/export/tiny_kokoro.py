"""Exports a tiny Kokoro with random weights, its voices and its goldens, in the layout of onnx-community/Kokoro-82M-v1.0-ONNX.

    python tiny_kokoro.py [--models DIR] [--fixtures DIR]

The class is KModel of the PyPI package `kokoro` (installed with --no-deps: its pipeline, which turns text into phonemes, is not used).
It writes some widths of its decoder as literals, which are made small here before its source runs. Its noise is switched off, so that
the graph is deterministic and a waveform can be compared sample by sample; real exports keep it. The exported graph itself differs from
torch by up to 9e-3 in single samples (5e-4 on average): normalisation inside the source's branch makes much of the last bits of a phase.
"""

import argparse
import importlib.util
import json
import math
import re
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
OPSET = 18
HIDDEN, DECODER, RESIDUAL = 24, 32, 8
ROWS, STYLE = 64, 256
VOICES = ("af_sky", "bf_emma")
# Ids of Kokoro 1.0 (its config.json); it has 178 in all.
VOCABULARY = {
    **{";": 1, ":": 2, ",": 3, ".": 4, "!": 5, "?": 6, "—": 9, "…": 10, '"': 11, "(": 12, ")": 13, "“": 14, "”": 15, " ": 16},
    **{"\u0303": 17, "ʣ": 18, "ʥ": 19, "ʦ": 20, "ʨ": 21, "ᵝ": 22, "\uab67": 23, "A": 24, "I": 25, "O": 31, "Q": 33, "S": 35},
    **{"T": 36, "W": 39, "Y": 41, "ᵊ": 42, "a": 43, "b": 44, "c": 45, "d": 46, "e": 47, "f": 48, "h": 50, "i": 51, "j": 52, "k": 53},
    **{"l": 54, "m": 55, "n": 56, "o": 57, "p": 58, "q": 59, "r": 60, "s": 61, "t": 62, "u": 63, "v": 64, "w": 65, "x": 66, "y": 67},
    **{"z": 68, "ɑ": 69, "ɐ": 70, "ɒ": 71, "æ": 72, "β": 75, "ɔ": 76, "ɕ": 77, "ç": 78, "ɖ": 80, "ð": 81, "ʤ": 82, "ə": 83, "ɚ": 85},
    **{"ɛ": 86, "ɜ": 87, "ɟ": 90, "ɡ": 92, "ɥ": 99, "ɨ": 101, "ɪ": 102, "ʝ": 103, "ɯ": 110, "ɰ": 111, "ŋ": 112, "ɳ": 113, "ɲ": 114},
    **{"ɴ": 115, "ø": 116, "ɸ": 118, "θ": 119, "œ": 120, "ɹ": 123, "ɾ": 125, "ɻ": 126, "ʁ": 128, "ɽ": 129, "ʂ": 130, "ʃ": 131},
    **{"ʈ": 132, "ʧ": 133, "ʊ": 135, "ʋ": 136, "ʌ": 138, "ɣ": 139, "ɤ": 140, "χ": 142, "ʎ": 143, "ʒ": 147, "ʔ": 148, "ˈ": 156},
    **{"ˌ": 157, "ː": 158, "ʰ": 162, "ʲ": 164, "↓": 169, "→": 171, "↗": 172, "↘": 173, "ᵻ": 177},
}
# Text, language, voice, speed and the phonemes that espeak-ng 1.51 gives for it, so that a test can begin with the text.
CASES = (
    ("american", "A red fox.", "en-us", VOICES[0], 1.0, "ɐ ɹˈɛd fˈɑːks."),
    ("british", "A red fox.", "en-gb", VOICES[1], 1.5, "ɐ ɹˈɛd fˈɒks."),
    ("french", "Le renard roux.", "fr-fr", VOICES[1], 1.0, "lə- ʁənˈaʁ ʁˈu."),
    # More phonemes than a voice has rows.
    (
        "long",
        "The lighthouse keeper counted ninety waves, and then (slowly) went up to light the lamp…",
        "en-us",
        VOICES[0],
        2.0,
        "ðə lˈaɪthaʊs kˈiːpɚ kˈaʊntᵻd nˈaɪndi wˈeɪvz, ænd ðˈɛn (slˈoʊli) wɛnt ˌʌp tə lˈaɪt ðə lˈæmp…",
    ),
)


def kokoro_model() -> type:
    """KModel with a small decoder. The package's own __init__ would import its text pipeline, which needs much more."""
    spec = importlib.util.find_spec("kokoro")
    assert spec is not None and spec.submodule_search_locations, "pip install --no-deps kokoro loguru"
    package = types.ModuleType("kokoro")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["kokoro"] = package
    source = (Path(package.__path__[0]) / "istftnet.py").read_text(encoding="utf-8")
    head, decoder = source.split("class Decoder(", 1)
    for literal, width in (("1024", DECODER), ("512", HIDDEN), ("64", RESIDUAL)):
        decoder = re.sub(rf"\b{literal}\b", str(width), decoder)
    module = types.ModuleType("kokoro.istftnet")
    module.__package__ = "kokoro"
    sys.modules["kokoro.istftnet"] = module
    exec(compile(head + "class Decoder(" + decoder, "istftnet.py", "exec"), module.__dict__)
    from kokoro.model import KModel

    return KModel


def tiny_model() -> torch.nn.Module:
    torch.manual_seed(21)
    config = {
        "vocab": VOCABULARY,
        "n_token": 178,
        "hidden_dim": HIDDEN,
        "style_dim": STYLE // 2,
        "n_layer": 1,
        "max_dur": 20,
        "dropout": 0.0,
        "text_encoder_kernel_size": 5,
        "n_mels": 80,
        "plbert": {
            "hidden_size": 24,
            "embedding_size": 16,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 512,
            "num_hidden_layers": 1,
        },
        "istftnet": {
            "upsample_kernel_sizes": [20, 12],
            "upsample_rates": [10, 6],
            "gen_istft_hop_size": 5,
            "gen_istft_n_fft": 20,
            "resblock_dilation_sizes": [[1, 3, 5]],
            "resblock_kernel_sizes": [3],
            "upsample_initial_channel": HIDDEN,
        },
    }
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({}, file.name)
        model = kokoro_model()("tiny", config, file.name, disable_complex=True).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight.normal_(std=1.0)
            elif isinstance(module, torch.nn.Linear):
                module.weight.normal_(std=1 / math.sqrt(module.weight.shape[1]))
        # Two or three frames a phoneme, and a spectrum whose exponential stays small.
        model.predictor.duration_proj.linear_layer.bias.fill_(-2.0)
        # A voice of about 12 Hz: the source adds up its phase over seconds, which float32 rounds differently in every runtime, the more the
        # higher the voice. The phase of its spectrum is left aside, which is rounding noise where a bin has no energy.
        model.predictor.F0_proj.weight.mul_(0.05)
        model.predictor.F0_proj.bias.fill_(12.0)
        for convolution in model.decoder.generator.noise_convs:
            convolution.weight[:, convolution.weight.shape[1] // 2 :] = 0
        post = model.decoder.generator.conv_post
        post.weight_g.mul_(0.05)
        post.bias.fill_(2.0)
    return model


class Exported(torch.nn.Module):
    """Names and shapes of onnx-community's graph: input_ids [1, T], style [1, 256], speed [1] -> waveform [1, samples]."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, style: torch.Tensor, speed: torch.Tensor) -> torch.Tensor:
        waveform, _ = self.model.forward_with_tokens(input_ids, style, speed)
        return waveform.reshape(1, -1)


def ids_of(phonemes: str) -> list[int]:
    return [0, *(VOCABULARY[character] for character in phonemes if character in VOCABULARY), 0]


def write_model(folder: Path, exported: Exported) -> dict[str, np.ndarray]:
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    (folder / "voices").mkdir(exist_ok=True)
    generator = np.random.default_rng(5)
    voices = {}
    for voice in VOICES:
        voices[voice] = generator.normal(0, 0.5, (ROWS, STYLE)).astype(np.float32)
        voices[voice].tofile(folder / "voices" / f"{voice}.bin")
    tokenizer = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"$": 0, **VOCABULARY}, "unk_token": "$"}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    example = (torch.tensor([ids_of(CASES[-1][-1])]), torch.from_numpy(voices[VOICES[0]][:1]), torch.ones(1))
    torch.onnx.export(
        exported,
        example,
        str(folder / "onnx" / "model.onnx"),
        input_names=["input_ids", "style", "speed"],
        output_names=["waveform"],
        dynamic_axes={"input_ids": {1: "sequence_length"}, "waveform": {1: "num_samples"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return voices


def goldens(folder: Path, exported: Exported, voices: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for name, text, lang, voice, speed, phonemes in CASES:
        ids = ids_of(phonemes)
        row = min(len(ids) - 2, ROWS - 1)
        with torch.no_grad():
            waveform = exported(torch.tensor([ids]), torch.from_numpy(voices[voice][row : row + 1]), torch.tensor([speed]))[0].numpy()
        waveform.astype(np.float16).tofile(folder / f"{name}.f16")
        cases.append({"name": name, "text": text, "lang": lang, "voice": voice, "speed": speed, "phonemes": phonemes, "samples": len(waveform)})
    (folder / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models")
    parser.add_argument("--fixtures", type=Path, default=REPOSITORY / "test" / "fixtures" / "kokoro")
    arguments = parser.parse_args()
    torch.rand = lambda *size, **options: torch.zeros(*size, **options)
    torch.randn_like = lambda like, **options: torch.zeros_like(like)
    exported = Exported(tiny_model())
    voices = write_model(arguments.models / "tiny-kokoro", exported)
    goldens(arguments.fixtures, exported, voices)


if __name__ == "__main__":
    main()
