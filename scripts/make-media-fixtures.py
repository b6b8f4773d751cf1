"""Makes test/fixtures/media with Pillow: what resize-lanczos.ts and read-image.ts are compared with.

Run: pip install pillow numpy && python scripts/make-media-fixtures.py
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "test/fixtures/media"
OUT.mkdir(parents=True, exist_ok=True)

rng = np.random.default_rng(7)
height, width = 71, 97
y, x = np.mgrid[0:height, 0:width]
gradient = np.stack([x * 255 / width, y * 255 / height, (x * y) % 256], axis=-1)
noise = rng.integers(0, 256, (height, width, 3))
pixels = np.where((x // 16 + y // 16)[..., None] % 2 == 0, gradient, noise).astype(np.uint8)
# Hard edges overshoot: the clipping of both passes is part of what is compared.
pixels[20:40, 30:60] = 255
pixels[25:35, 35:55] = 0
source = Image.fromarray(pixels)
source.save(OUT / "source.png")

for size in [(48, 64), (97, 32), (64, 71), (160, 128), (16, 16), (90, 32), (128, 64), (96, 69)]:
    source.resize(size, resample=Image.Resampling.LANCZOS).save(OUT / f"lanczos-{size[0]}x{size[1]}.png")

for mode, name in [("1", "1bit"), ("L", "gray"), ("P", "palette"), ("RGB", "24bit"), ("RGBA", "32bit")]:
    converted = source.convert(mode)
    converted.save(OUT / f"bmp-{name}.bmp")
    converted.convert("RGB").save(OUT / f"bmp-{name}.png")
(OUT / "made-by.json").write_text(json.dumps({"pillow": Image.__version__, "numpy": np.__version__}) + "\n")
