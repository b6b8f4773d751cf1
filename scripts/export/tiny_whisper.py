"""Exports the tiny Whisper models: random weights in the real transformers class, written by the Optimum exporter.

    python tiny_whisper.py [tiny-whisper] [tiny-whisper-128] [--models DIR] [--torch DIR]

Everything but the weights, the widths and the number of text tokens is as in OpenAI's repositories: classes, window of 1500 positions, 448
target positions, order of the special tokens, 1501 time stamps, generation settings. `tiny-whisper` has 80 mel bins and 99 languages as the
models up to large-v2 have, `tiny-whisper-128` has 128 and 100 as large-v3.
"""

import argparse
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from optimum.exporters.onnx import main_export
from tokenizers import AddedToken, ByteLevelBPETokenizer
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizerFast,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from tiny_flux import REPOSITORY, default_torch_root
from tiny_tokenizers import CORPUS

OPSET = 18
WIDTH = 32
TIMESTAMPS = 1501
TEXT_TOKENS = 320
END = "<|endoftext|>"


@dataclass(frozen=True)
class Variant:
    """One of the two input widths that Whisper models have, and one seed so that the two have different weights."""

    name: str
    seed: int
    mel_bins: int
    languages: int


VARIANTS = {
    variant.name: variant
    for variant in (Variant("tiny-whisper", 1, mel_bins=80, languages=99), Variant("tiny-whisper-128", 2, mel_bins=128, languages=100))
}


def tokenizer(variant: Variant) -> WhisperTokenizerFast:
    """Byte pairs of corpus.txt, then Whisper's special tokens in their order, then the time stamps, which are not special."""
    trained = ByteLevelBPETokenizer()
    trained.train([str(CORPUS)], vocab_size=TEXT_TOKENS, min_frequency=2, show_progress=False, special_tokens=[])
    trained.add_special_tokens([END])
    made = WhisperTokenizerFast(
        tokenizer_object=trained._tokenizer,
        unk_token=END,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=448,
        clean_up_tokenization_spaces=False,
    )
    languages = [f"<|{code}|>" for code in list(LANGUAGES)[: variant.languages]]
    tasks = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    made.add_special_tokens({"additional_special_tokens": ["<|startoftranscript|>", *languages, *tasks]})
    made.add_tokens([AddedToken(f"<|{index * 0.02:.2f}|>", special=False, normalized=False) for index in range(TIMESTAMPS)])
    return made


def generation(variant: Variant, words: WhisperTokenizerFast) -> GenerationConfig:
    id_of = words.convert_tokens_to_ids
    space = id_of("Ġ")
    return GenerationConfig(
        alignment_heads=[[1, 0]],
        begin_suppress_tokens=[space, words.eos_token_id],
        bos_token_id=words.eos_token_id,
        decoder_start_token_id=id_of("<|startoftranscript|>"),
        eos_token_id=words.eos_token_id,
        forced_decoder_ids=None,
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": id_of(f"<|{code}|>") for code in list(LANGUAGES)[: variant.languages]},
        max_initial_timestamp_index=50,
        max_length=448,
        no_timestamps_token_id=id_of("<|notimestamps|>"),
        pad_token_id=words.eos_token_id,
        prev_sot_token_id=id_of("<|startofprev|>"),
        return_timestamps=False,
        suppress_tokens=[
            *(id_of(mark) for mark in ("(", ")", "[", "]", "#", "@")),
            *(id_of(f"<|{name}|>") for name in ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech")),
        ],
        task_to_id={"transcribe": id_of("<|transcribe|>"), "translate": id_of("<|translate|>")},
    )


def network(variant: Variant, words: WhisperTokenizerFast) -> WhisperForConditionalGeneration:
    end = words.eos_token_id
    config = WhisperConfig(
        vocab_size=len(words),
        num_mel_bins=variant.mel_bins,
        d_model=WIDTH,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=2 * WIDTH,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=2 * WIDTH,
        max_source_positions=1500,
        max_target_positions=448,
        decoder_start_token_id=words.convert_tokens_to_ids("<|startoftranscript|>"),
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        begin_suppress_tokens=None,
        suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    spread(model, end, words.convert_tokens_to_ids("<|0.00|>"))
    return model


def spread(model: WhisperForConditionalGeneration, end: int, first_timestamp: int) -> None:
    """Draws all weights wider than the class would, so that every sound changes the text.

    Real habits are written into the last layer on top: the end becomes likelier with every token, and later time stamps with it, else a
    random model would never stop or never move on.
    """
    decoder = model.model.decoder
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, (torch.nn.Linear, torch.nn.Conv1d)):
                part.weight.normal_(std=1.0 / math.sqrt(part.weight[0].numel()))
                if part.bias is not None:
                    part.bias.normal_(std=0.05)
        for name, weight in model.named_parameters():
            # Sharper attention to the sound: 1500 positions would average out otherwise.
            if name.endswith("encoder_attn.k_proj.weight"):
                weight.mul_(5.0)
            if name.endswith("encoder_attn.out_proj.weight"):
                weight.mul_(3.0)
        tokens = decoder.embed_tokens.weight
        tokens.normal_(std=0.8)
        # The last layer is the embedding again: with its signs mixed, a token does not call for itself over and over.
        signs = decoder.layer_norm.weight
        signs.copy_(torch.where(torch.rand(signs.shape) < 0.5, -1.0, 1.0))
        signs[:2] = 1.0
        position = decoder.embed_positions.weight
        position.normal_(std=1.0)
        # Two directions that nothing else uses much: one for the end, one for time.
        tokens[:, :2].zero_()
        tokens[end, 0] = 3.0
        count = torch.arange(position.shape[0])
        position[:, 0] = -4.0 + count * 0.2
        stamps = torch.arange(TIMESTAMPS) / TIMESTAMPS
        tokens[first_timestamp : first_timestamp + TIMESTAMPS].mul_(0.75)
        tokens[first_timestamp : first_timestamp + TIMESTAMPS, 1] = stamps * 1.5 - 1.5
        position[:, 1] = count * 0.08
        for weight in model.parameters():
            weight.copy_(weight.half())


def build(variant: Variant, folder: Path) -> WhisperForConditionalGeneration:
    """Makes the model and saves it under `folder` as `from_pretrained` reads it."""
    shutil.rmtree(folder, ignore_errors=True)
    words = tokenizer(variant)
    torch.manual_seed(variant.seed)
    model = network(variant, words).eval().requires_grad_(False)
    model.generation_config = generation(variant, words)
    extractor = WhisperFeatureExtractor(feature_size=variant.mel_bins)
    model.save_pretrained(folder)
    WhisperProcessor(feature_extractor=extractor, tokenizer=words).save_pretrained(folder)
    return model


KEPT = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json")


def export(torch_folder: Path, target: Path) -> None:
    """Runs the user's own command, `optimum-cli export onnx`, and keeps the graphs and files that a worker reads."""
    made = torch_folder / "onnx"
    shutil.rmtree(made, ignore_errors=True)
    main_export(str(torch_folder), output=made, task="automatic-speech-recognition-with-past", opset=OPSET, do_validation=True, dtype="fp32")
    shutil.rmtree(target / "onnx", ignore_errors=True)
    (target / "onnx").mkdir(parents=True)
    for name in ("encoder_model.onnx", "decoder_model_merged.onnx"):
        shutil.copyfile(made / name, target / "onnx" / name)
    for name in KEPT:
        value = json.loads((made / name).read_text(encoding="utf-8"))
        value.pop("_name_or_path", None)
        # The mel filters are computed from their definition.
        value.pop("mel_filters", None)
        indent = None if name == "tokenizer.json" else 2
        text = json.dumps(value, indent=indent, ensure_ascii=False)
        (target / name).write_text(text + "\n", encoding="utf-8")


def load(name: str, torch_root: Path) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """The torch model behind a committed export; made anew (the same weights for the same torch) when it is not there."""
    folder = torch_root / name
    if not (folder / "config.json").exists():
        build(VARIANTS[name], folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder, torch_dtype=torch.float32)
    return model, WhisperProcessor.from_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"default: all of {', '.join(VARIANTS)}")
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models", help="where the exports go, one folder per model")
    parser.add_argument("--torch", type=Path, default=default_torch_root(), help="where the torch models are saved")
    options = parser.parse_args()
    for name in options.names or VARIANTS:
        if name not in VARIANTS:
            parser.error(f"{name!r} is none of {', '.join(VARIANTS)}")
        build(VARIANTS[name], options.torch / name)
        export(options.torch / name, options.models / name)
        size = sum(file.stat().st_size for file in (options.models / name).rglob("*") if file.is_file())
        print(f"{name}: {size / 1e6:.2f} MB in {options.models / name}")


if __name__ == "__main__":
    main()
