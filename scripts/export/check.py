"""Runs every golden case on the exported parts with flux_loop.py and compares ids, latents and pixels.

    python check.py [case ...] [--models DIR [--half]]

Ends with status 1 when a difference is above its limit. Needs numpy, onnxruntime, tokenizers and pillow only.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from flux_loop import BFL, OPTIMUM, Flux, TorchNoise

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "test" / "fixtures" / "flux"
# float32 all through: only the order of additions differs.
EXACT = {"latents": 1e-3, "levels": 1}
# tiny-flux-bfl has float16 at the transformer's edges; rounding of half a thousandth adds up over the steps.
HALF = {"latents": 2e-2, "levels": 3}


def golden_pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.glob("image*.png"))]).astype(np.int16)


def compare(model: Flux, folder: Path, limits: dict) -> bool:
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    batch = isinstance(case["prompt"], list)
    clip_ids, t5_ids = model.ids(case["prompt"] if batch else [case["prompt"]], case["max_sequence_length"])
    same_ids = np.array_equal(clip_ids, np.atleast_2d(case["clip_ids"])) and np.array_equal(t5_ids, np.atleast_2d(case["t5_ids"]))

    latents, pixels = model.run(case, FIXTURES)
    golden = np.fromfile(folder / "latents.f32", dtype="<f4").reshape(case["latent_shape"])
    latent_gap = float(np.abs(latents - golden).max())
    levels = int(np.abs(np.rint(pixels).astype(np.int16) - golden_pixels(folder)).max())
    good = same_ids and latent_gap <= limits["latents"] and levels <= limits["levels"]
    print(f"{'ok  ' if good else 'FAIL'} {model.folder.name:18} {folder.name:26} ids {same_ids}  latents {latent_gap:.1e}  levels {levels}")
    return good


def check_random() -> bool:
    """The numpy generator against torch's own values, in draws that it covers."""
    goldens = json.loads((FIXTURES.parent / "torch-randn.json").read_text())
    gaps = [
        np.abs(TorchNoise(golden["seed"]).normal(golden["counts"][0])[: len(golden["first"][0])] - golden["first"][0]).max()
        for golden in goldens["draws"]
        if golden["counts"] == [16]
    ]
    good = len(gaps) > 0 and max(gaps) < 1e-6
    print(f"{'ok  ' if good else 'FAIL'} torch-randn.json: {len(gaps)} draws, greatest difference {max(gaps):.1e}")
    return good


def check_variety(folders: list[Path]) -> bool:
    """Goldens that all look alike would prove nothing: each pair of one size must differ, in the mean, by many levels."""
    pictures = {folder.name: golden_pixels(folder) for folder in folders}
    pairs = [
        (float(np.abs(pictures[a] - pictures[b]).mean()), a, b)
        for a, b in itertools.combinations(pictures, 2)
        if pictures[a].shape == pictures[b].shape
    ]
    if not pairs:
        return True
    gap, a, b = min(pairs)
    print(f"{'ok  ' if gap > 3 else 'FAIL'} the most similar goldens, {a} and {b}, differ by {gap:.1f} levels in the mean")
    return gap > 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases; default: all")
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models", help="another folder with the two models, e.g. optimised ones")
    parser.add_argument("--half", action="store_true", help="the limits for half precision")
    options = parser.parse_args()
    names = options.names
    folders = [folder for folder in sorted(FIXTURES.iterdir()) if (folder / "case.json").exists() and (not names or folder.name in names)]
    if not folders:
        parser.error(f"no such case in {FIXTURES}")

    models = {name: Flux(options.models / name) for name in ("tiny-flux-schnell", "tiny-flux-dev")}
    other_layout = Flux(FIXTURES / "tiny-flux-bfl", BFL)
    results = []
    for folder in folders:
        case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        results.append(compare(models[case["model"]], folder, HALF if options.half else EXACT))
        if case["model"] == "tiny-flux-schnell" and case["task"] == "txt2img":
            results.append(compare(other_layout, folder, HALF))
    results += [check_random(), check_variety(folders)]
    print(f"{sum(results)} of {len(results)} checks passed")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
