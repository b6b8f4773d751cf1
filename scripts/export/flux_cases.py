"""The golden cases: what is asked of the pipelines, and nothing about how it is computed."""

from dataclasses import dataclass, field

FOX = "a red fox standing in fresh snow, soft morning light"
LIGHTHOUSE = "a lighthouse on a cliff above a stormy sea, oil painting"
SCHNELL, DEV = "tiny-flux-schnell", "tiny-flux-dev"

OVERLONG = " ".join(
    f"{count} wooden boats, a stone bridge over the quiet river number {count}, lanterns and long reflections in the dark water;"
    for count in range(1, 31)
)
# Without curly quotes and ligatures: there the slow CLIP tokenizer of diffusers (with ftfy) and the fast one give different ids.
UNICODE = """Crème brûlée à l'été, ÅNGSTRÖM, 東京の夜 🦊🌃, naïve — "façade\u0301" №5"""


@dataclass(frozen=True)
class Case:
    name: str
    model: str
    prompts: tuple[str, ...] = (FOX,)
    seeds: tuple[int, ...] = (42,)
    width: int = 128
    height: int = 128
    steps: int = 4
    guidance: float = 3.5
    strength: float | None = None
    image: str | None = None
    notes: str = field(default="")

    @property
    def task(self) -> str:
        return "txt2img" if self.strength is None else "img2img"


CASES = (
    Case("schnell-128x128-4", SCHNELL, notes="the plain case"),
    Case("schnell-192x128-1", SCHNELL, width=192, steps=1, notes="wider than high, one step"),
    Case("schnell-192x128-6", SCHNELL, width=192, steps=6, notes="wider than high, six steps"),
    Case("schnell-empty", SCHNELL, prompts=("",), width=96, height=64, steps=2, notes="empty prompt"),
    Case(
        "schnell-overlong", SCHNELL,
        prompts=(OVERLONG,), width=96, height=64, steps=2,
        notes="both tokenizers truncate; the last id is the end mark",
    ),
    Case(
        "schnell-unicode", SCHNELL,
        prompts=(UNICODE,), width=96, height=64, steps=2,
        notes="accents (one decomposed), emoji, CJK; T5 has unknown pieces",
    ),
    Case("schnell-seed-2147483653", SCHNELL, seeds=(2**31 + 5,), width=96, height=64, steps=2, notes="seed above 2^31"),
    Case("schnell-batch", SCHNELL, prompts=(FOX, LIGHTHOUSE), seeds=(42, 7), notes="two prompts, one generator each, one call"),
    Case("dev-128x128-5", DEV, steps=5, notes="guidance and dynamic shift"),
    Case("dev-128x160-3", DEV, height=160, steps=3, notes="higher than wide: 80 tokens, another mu"),
    Case("dev-guidance-1", DEV, width=96, height=64, steps=2, guidance=1.0, notes="as dev-guidance-7 with guidance 1"),
    Case("dev-guidance-7", DEV, width=96, height=64, steps=2, guidance=7.0, notes="as dev-guidance-1 with guidance 7"),
    Case("dev-overlong", DEV, prompts=(OVERLONG,), width=96, height=64, steps=2, notes="T5 truncates at 512"),
    Case("schnell-img2img-60", SCHNELL, strength=0.6, image="init-128.png", notes="starts at step 1 of 4"),
    Case("schnell-img2img-85", SCHNELL, strength=0.85, image="init-128.png", steps=6, notes="runs all 6 steps: 6 - 6 * 0.85 is below 1"),
    Case("dev-img2img-60", DEV, strength=0.6, image="init-128.png", steps=6, guidance=7.0, notes="starts at step 2 of 6"),
    Case("dev-img2img-85", DEV, strength=0.85, image="init-128.png", steps=5, notes="a start image of the right size"),
    Case(
        "schnell-img2img-resized",
        SCHNELL,
        strength=0.6,
        image="init-200x150.png",
        width=160,
        steps=3,
        notes="the start image is brought to 160x128 by PIL's lanczos, without regard to its aspect ratio",
    ),
)
