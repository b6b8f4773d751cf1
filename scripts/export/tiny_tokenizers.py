"""Tokenizers for the tiny pipelines, trained here on corpus.txt because a real one would be several megabytes.

Both are saved exactly as the FLUX.1 repositories have them: CLIP as vocab.json + merges.txt without tokenizer.json,
T5 as spiece.model + tokenizer.json with the Precompiled character map of sentencepiece's nmt_nfkc rules.
"""

import collections
import io
import json
from pathlib import Path

import regex
import sentencepiece
from transformers import CLIPTokenizer, T5TokenizerFast
from transformers.models.clip.tokenization_clip import bytes_to_unicode

CORPUS = Path(__file__).with_name("corpus.txt")
CLIP_LENGTH = 77
T5_EXTRA_IDS = 100

# The split rule of CLIP's own tokenizer (transformers, tokenization_clip.py).
CLIP_SPLIT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def learn_merges(words: collections.Counter, count: int) -> list[tuple[str, str]]:
    """Byte pair encoding (Sennrich 2016): the most frequent neighbouring pair becomes one symbol, `count` times."""
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        if not pairs:
            break
        # Ties are broken by the text itself, so that every run learns the same merges.
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        merged = collections.Counter()
        for word, times in words.items():
            symbols, at = [], 0
            while at < len(word):
                joined = word[at : at + 2] == best
                symbols.append("".join(best) if joined else word[at])
                at += 2 if joined else 1
            merged[tuple(symbols)] += times
        words = merged
    return merges


def train_clip(folder: Path, merge_count: int = 160) -> CLIPTokenizer:
    """Writes a CLIP tokenizer whose end of text has the highest id, which the text model's ArgMax pooling relies on."""
    alphabet = bytes_to_unicode()
    words = collections.Counter()
    for token in CLIP_SPLIT.findall(CORPUS.read_text(encoding="utf-8").lower()):
        symbols = [alphabet[byte] for byte in token.encode("utf-8")]
        symbols[-1] += "</w>"
        words[tuple(symbols)] += 1
    merges = learn_merges(words, merge_count)

    letters = list(alphabet.values())
    vocabulary = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(vocabulary)) == len(vocabulary), "two merges give the same symbol"

    folder.mkdir(parents=True, exist_ok=True)
    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    vocab_file.write_text(json.dumps({token: id for id, token in enumerate(vocabulary)}, ensure_ascii=False), encoding="utf-8")
    merges_file.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    tokenizer = CLIPTokenizer(
        str(vocab_file),
        str(merges_file),
        unk_token="<|endoftext|>",
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=CLIP_LENGTH,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def train_t5(folder: Path, max_length: int, vocabulary_size: int = 400) -> T5TokenizerFast:
    """Writes a T5 tokenizer: unigram pieces, pad 0, end of sequence 1, unknown 2, then 100 sentinels as in the real one."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.read_text(encoding="utf-8").splitlines()),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    spiece = folder / "spiece.model"
    spiece.write_bytes(model.getvalue())
    tokenizer = T5TokenizerFast(str(spiece), extra_ids=T5_EXTRA_IDS, model_max_length=max_length, add_prefix_space=True)
    tokenizer.save_pretrained(folder)
    return tokenizer
