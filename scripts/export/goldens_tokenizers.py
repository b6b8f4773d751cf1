"""Writes test/fixtures/flux/tokenizers.json: what the tokenizers of tiny-flux-schnell make of awkward prompts.

    python goldens_tokenizers.py [--torch DIR]

`clip` and `t5` are what diffusers gives its models: cut to 77 and 256, without the padding. `clip_fast` is there only where the fast
CLIP tokenizer, which has no ftfy, answers otherwise.
"""

import argparse
import json
from pathlib import Path

from flux_cases import FOX, OVERLONG, SCHNELL, UNICODE
from flux_loop import clip_tokenizer
from goldens_flux import FIXTURES
from tiny_flux import REPOSITORY, VARIANTS, default_torch_root, load

PROMPTS = (
    FOX,
    "",
    " ",
    "   two  spaces,\ta tab\nand a new line   ",
    "UPPER and MiXeD case, it's we're I'll don't",
    "12345 6.78 f/1.8 50mm #tag @name 100% a+b=c (((x))) [y:1.2] {z}",
    UNICODE,
    OVERLONG,
    "cafe\u0301 and caf\u00e9, A\u030angstro\u0308m",
    "\uff21\uff22\uff23 full width, \u2460 circled, x\u00b2, \u00bd, \u2122",
    "\u201ccurly\u201d \u2018quotes\u2019",
    "\ufb01ne \ufb02ower ligatures",
    "&amp; &lt;b&gt; html",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family, \U0001f1ef\U0001f1f5 flag, \u2764\ufe0f heart",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 \uc548\ub155",
    "soft\u00adhyphen, zero\u200bwidth, no\u00a0break, bell\u0007",
    "<|endoftext|> and <|startoftext|> inside",
    "</s> and <pad> and <extra_id_0> inside",
    "supercalifragilisticexpialidocious" * 3,
    "\u2581 the piece mark itself",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", type=Path, default=default_torch_root(), help="where tiny_flux.py saved the torch pipelines")
    pipeline = load(SCHNELL, parser.parse_args().torch)
    fast = clip_tokenizer(REPOSITORY / "models" / SCHNELL / "tokenizer")
    fast.no_padding()

    rows = []
    for prompt in PROMPTS:
        clip = pipeline.tokenizer(prompt, truncation=True, max_length=pipeline.tokenizer_max_length).input_ids
        t5 = pipeline.tokenizer_2(prompt, truncation=True, max_length=VARIANTS[SCHNELL].t5_length).input_ids
        row = {"prompt": prompt, "clip": clip, "t5": t5}
        if fast.encode(prompt).ids != clip:
            row["clip_fast"] = fast.encode(prompt).ids
            print(f"slow and fast CLIP differ: {prompt!r}\n  {clip}\n  {row['clip_fast']}")
        rows.append(json.dumps(row))
    (FIXTURES / "tokenizers.json").write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
