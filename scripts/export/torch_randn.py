"""Writes test/fixtures/torch-randn.json: what torch's CPU generator draws, float32.

Each entry is one generator and the draws made from it one after the other. Up to 33 values are written whole, of longer draws the
first and last 16. No seed is above 2^53 - 1, so that every JSON reader gets it whole.
"""

import json

import torch

from tiny_flux import REPOSITORY

SEEDS = (0, 42, 2**31 + 5, 2**32 + 7, 2**53 - 1)
# The last three keep or leave a cached second normal between calls, and mix the paths below and above 16 values.
DRAWS = ([3], [4], [16], [20], [33], [1000], [3, 3], [3, 16, 3], [5, 20, 2, 33])
WHOLE, EDGE = 33, 16


def draw(seed: int, counts: list[int]) -> dict:
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(count, generator=generator).tolist() for count in counts]
    return {
        "seed": seed,
        "counts": counts,
        "first": [row if len(row) <= WHOLE else row[:EDGE] for row in values],
        "last": [row if len(row) <= WHOLE else row[-EDGE:] for row in values],
    }


def main() -> None:
    goldens = {"torch": torch.__version__, "draws": [draw(seed, counts) for seed in SEEDS for counts in DRAWS]}
    file = REPOSITORY / "test" / "fixtures" / "torch-randn.json"
    rows = ",\n".join(json.dumps(entry) for entry in goldens["draws"])
    file.write_text(f'{{"torch": {json.dumps(goldens["torch"])}, "draws": [\n{rows}\n]}}\n', encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
