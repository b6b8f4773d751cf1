"""Golden transcripts of the real transformers Whisper for the tiny models: float32 torch modules on the CPU.

    python goldens_whisper.py [case ...] [--torch DIR]

Each case becomes test/fixtures/whisper/<case>.json and <case>.f32 (log-mel features of every 100th frame,
with 30 s of silence behind the audio); see README.md.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LogitsProcessor, WhisperForConditionalGeneration
from transformers.generation.logits_process import WhisperNoSpeechDetection

from tiny_flux import REPOSITORY, default_torch_root
from tiny_whisper import load
from whisper_audio import RATE, as_float, babble

FIXTURES = REPOSITORY / "test" / "fixtures" / "whisper"
WINDOW_FRAMES = 3_000
FRAME = 160
FEATURE_STRIDE = 100
WITH_FEATURES = ("short", "long", "short-128")


@dataclass(frozen=True)
class Case:
    name: str
    model: str
    seed: int
    samples: int
    notes: str
    language: str | None = None
    # Windows whose mean log-probability is below the first and whose no-speech probability is above the second are left out.
    logprob_threshold: float = -1e9
    no_speech_threshold: float = 2.0


CASES = (
    Case("short", "tiny-whisper", 11, 6 * RATE + 1_234, "one window, mostly padding, a length that is no multiple of a frame"),
    Case("window", "tiny-whisper", 12, 30 * RATE, "exactly one window"),
    Case("long", "tiny-whisper", 13, 75 * RATE + 77, "several windows that overlap"),
    Case("german", "tiny-whisper", 16, 40 * RATE + 5, "the language is said, not detected", language="de"),
    Case("no-speech", "tiny-whisper", 13, 75 * RATE + 77, "a window that the model takes for no speech is left out", None, -0.6, 0.0037),
    Case("short-128", "tiny-whisper-128", 24, 4 * RATE, "one window of 128 mel bins"),
    Case("long-128", "tiny-whisper-128", 15, 47 * RATE, "several windows of 128 mel bins"),
)


class Margins(LogitsProcessor):
    """Last in line: remembers how far the best token was ahead of the next, for a golden must not hang on rounding."""

    def __init__(self):
        self.smallest = float("inf")

    def __call__(self, input_ids, scores):
        best = scores[0].float().topk(2).values
        self.smallest = min(self.smallest, float(best[0] - best[1]))
        return scores


def record_windows(model: WhisperForConditionalGeneration) -> list[dict]:
    """What the class knows of each window when it decides whether to keep it."""
    windows = []
    decide = model._need_fallback

    def need_fallback(sequence, outputs, index, processors, config, vocab_size, temperature):
        mean = model._retrieve_avg_logprobs(outputs[index]["scores"], sequence, temperature)
        silent = next(processor for processor in processors if isinstance(processor, WhisperNoSpeechDetection)).no_speech_prob
        answer = decide(sequence, outputs, index, processors, config, vocab_size, temperature)
        windows.append({"mean_logprob": float(mean), "no_speech": float(silent[index]), "skipped": answer[1], "tokens": len(sequence)})
        return answer

    model._need_fallback = need_fallback
    return windows


def as_openai_pads(model: WhisperForConditionalGeneration, content_frames: int) -> None:
    """Two habits of OpenAI's own code instead of the library's: behind the end there is silence (the library: zeros among the features), and
    windows begin only where there is audio (the library goes on through the padding)."""

    def segment(input_features, seek, seek_num_frames, num_segment_frames, cur_bsz, batch_idx_map):
        start = int(seek[0])
        return input_features[:, :, start : start + num_segment_frames]

    def frames(batch_size, attention_mask, total_input_frames, is_shortform):
        return torch.tensor([content_frames]), torch.zeros((1,), dtype=torch.long)

    model._get_input_segment = segment
    model._retrieve_max_frames_and_seek = frames


def without_pair(tokens: list[int], first_stamp: int) -> list[int]:
    """The library leaves the whole pair of stamps at a window's last segment, OpenAI's code only its first half."""
    return tokens[:-1] if len(tokens) > 2 and min(tokens[-2:]) >= first_stamp else tokens


def run_case(case: Case, torch_root: Path) -> None:
    model, processor = load(case.model, torch_root)
    audio = as_float(babble(case.seed, case.samples))
    padded = np.concatenate([audio, np.zeros(WINDOW_FRAMES * FRAME, dtype=np.float32)])
    extractor, words = processor.feature_extractor, processor.tokenizer
    features = extractor(padded, sampling_rate=RATE, return_tensors="pt", truncation=False, padding="longest").input_features
    content_frames = case.samples // FRAME

    plain = None
    if case.samples < 30 * RATE:
        usual = extractor(audio, sampling_rate=RATE, return_tensors="pt").input_features
        assert torch.allclose(usual, features[:, :, :WINDOW_FRAMES], atol=1e-6), "padding with silence is not what the extractor does"
        plain = model.generate(usual, return_timestamps=True, task="transcribe")[0].tolist()

    language = int(model.detect_language(features)[0])
    margins = Margins()
    as_openai_pads(model, content_frames)
    windows = record_windows(model)
    answer = model.generate(
        features,
        return_timestamps=True,
        return_segments=True,
        task="transcribe",
        language=case.language,
        temperature=0.0,
        logprob_threshold=case.logprob_threshold,
        no_speech_threshold=case.no_speech_threshold,
        logits_processor=[margins],
    )
    assert margins.smallest > 1e-3, f"{case.name}: two tokens are only {margins.smallest} apart; take another seed"
    segments = [
        {
            "start": round(float(segment["start"]), 2),
            "end": round(float(segment["end"]), 2),
            "tokens": kept,
            "text": words.decode([id for id in kept if id < words.eos_token_id]),
        }
        for segment in answer["segments"][0]
        for kept in [without_pair(segment["tokens"].tolist(), words.convert_tokens_to_ids("<|0.00|>"))]
    ]
    if plain is not None:
        first = segments[0]["tokens"]
        assert case.language or windows[0]["skipped"] or plain[: len(first)] == first, f"{case.name}: the library's own short form begins otherwise"

    FIXTURES.mkdir(parents=True, exist_ok=True)
    facts = {
        "model": case.model,
        "seed": case.seed,
        "samples": case.samples,
        "detected": words.convert_ids_to_tokens(language)[2:-2],
        "language": case.language,
        "logprob_threshold": case.logprob_threshold,
        "no_speech_threshold": case.no_speech_threshold,
        "windows": windows,
        "content_frames": content_frames,
        "feature_stride": FEATURE_STRIDE,
        "mel_bins": features.shape[1],
        "segments": segments,
        "notes": case.notes,
    }
    (FIXTURES / f"{case.name}.json").write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
    if case.name in WITH_FEATURES:
        features[0, :, ::FEATURE_STRIDE].T.contiguous().numpy().astype("<f4").tofile(FIXTURES / f"{case.name}.f32")
    texts = [segment["text"] for segment in segments]
    print(f"{case.name}: {words.convert_ids_to_tokens(language)}, {len(segments)} segments, margin {margins.smallest:.4f}, {[text[:60] for text in texts[:6]]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases; default: all")
    parser.add_argument("--torch", type=Path, default=default_torch_root(), help="where tiny_whisper.py saved the torch models")
    options = parser.parse_args()
    known = {case.name: case for case in CASES}
    for name in options.names:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    for case in (known[name] for name in options.names or known):
        run_case(case, options.torch)


if __name__ == "__main__":
    main()
