"""torch on the weights of scripts/export/geometry.py's exports, once they are drawn: what it makes of the same inputs, and how long it takes.

    python geometry_reference.py FOLDER --device cuda|cpu --out DIR [--size 1024]

Writes DIR/torch.json (milliseconds) and the outputs as DIR/<part>.f32. Parts are loaded one after the other, in the precision of the graph's weights.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import DynamicCache, EncoderDecoderCache, WhisperForConditionalGeneration

from geometry import FLUX, FLUX_SMALL, flux_modules, whisper_config
from structure import hollow

RUNS = 5
STEPS = 20
TYPES = {"float16": np.float16, "float32": np.float32}


class Weights:
    """The weights of one graph's file, by name."""

    def __init__(self, folder: Path, graph: str):
        listed = {entry["file"]: entry["weights"] for entry in json.loads((folder / "weights.json").read_text())}
        self.path = folder / f"{graph}_data"
        self.listed = {weight["name"]: weight for weight in listed[f"{graph}_data"]}

    def read(self, name: str) -> torch.Tensor:
        weight = self.listed.pop(name)
        shape = tuple(weight["shape"])
        values = np.memmap(self.path, dtype=TYPES[weight["type"]], mode="r", offset=weight["offset"], shape=shape)
        tensor = torch.from_numpy(np.array(values))
        return tensor.T if weight["transposed"] else tensor

    def into(self, model: torch.nn.Module, device: str) -> torch.nn.Module:
        """Gives a model its weights; all that are listed must be used."""
        dtype = torch.float16 if next(iter(self.listed.values()))["type"] == "float16" else torch.float32
        for path, module in model.named_modules():
            for name in module._parameters:
                full = f"{path}.{name}" if path else name
                if full in self.listed:
                    module._parameters[name] = torch.nn.Parameter(self.read(full).to(device, dtype), requires_grad=False)
        if self.listed:
            raise SystemExit(f"{self.path}: the model has no {', '.join(self.listed)}")
        if hasattr(model, "tie_weights"):
            model.tie_weights()
        return model.to(device=device, dtype=dtype)


def wave(*shape: int) -> torch.Tensor:
    """The numbers that scripts/bench/gpu feeds as well."""
    return torch.from_numpy(np.sin(np.arange(int(np.prod(shape))) * 12.9898).astype(np.float32)).reshape(shape)


def ids(count: int) -> torch.Tensor:
    return (torch.arange(count) * 7 % 1000)[None]


def clock(device: str, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """The result, and the median milliseconds of RUNS runs after one that warms up."""
    result, spent = run(), []
    for _ in range(RUNS):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        result = run()
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append((time.perf_counter() - started) * 1000)
    return result, sorted(spent)[RUNS // 2]


def flux(folder: Path, geometry: dict, device: str, size: int) -> dict[str, tuple[torch.Tensor, float]]:
    sizes = FLUX_SMALL if geometry["small"] else FLUX
    makers = flux_modules(sizes)
    grid, length = size // 16, 256
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    image_ids = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)

    def of(part: str, maker: str) -> torch.nn.Module:
        return Weights(folder, f"{part}/model.onnx").into(hollow(makers[maker]), device)

    found = {}
    model = of("text_encoder", "text_encoder")
    found["text_encoder"] = clock(device, lambda: model(input_ids=ids(77).to(device)).pooler_output)
    model = of("text_encoder_2", "text_encoder_2")
    found["text_encoder_2"] = clock(device, lambda: model(input_ids=ids(length).to(device)).last_hidden_state)
    model = of("transformer", "transformer")
    feeds = {
        "hidden_states": wave(1, grid * grid, 64),
        "encoder_hidden_states": wave(1, length, sizes.t5_width),
        "pooled_projections": wave(1, sizes.clip_width),
        "timestep": torch.tensor([0.75]),
    }
    feeds = {name: value.to(device, model.dtype) for name, value in feeds.items()}
    positions = {"img_ids": image_ids.to(device), "txt_ids": torch.zeros(length, 3, dtype=torch.int64).to(device)}
    found["transformer"] = clock(device, lambda: model(**feeds, **positions, return_dict=False)[0])
    model = of("vae_decoder", "vae")
    found["vae_decoder"] = clock(device, lambda: model.decode(wave(1, 16, size // 8, size // 8).to(device, model.dtype), return_dict=False)[0])
    return found


def whisper(folder: Path, geometry: dict, device: str) -> dict[str, tuple[torch.Tensor, float]]:
    config = whisper_config(geometry["small"])
    model = WhisperForConditionalGeneration
    encoder = Weights(folder, "onnx/encoder_model.onnx").into(hollow(lambda: model(config).get_encoder()), device)
    features = wave(1, 128, 3000).to(device, encoder.dtype)
    found = {"encoder": clock(device, lambda: encoder(input_features=features).last_hidden_state)}
    del encoder
    # The graph of the decoder has the whole model's names, and none of the encoder's.
    decoder = hollow(lambda: model(config))
    decoder.model.encoder = torch.nn.Identity()
    decoder = Weights(folder, "onnx/decoder_model_merged.onnx").into(decoder, device)
    hidden = wave(1, 1500, config.d_model).to(device, decoder.dtype)
    cache, spent, logits = EncoderDecoderCache(DynamicCache(), DynamicCache()), [], None
    for step in range(STEPS):
        token = torch.tensor([[step * 7 % config.vocab_size]], device=device)
        started = time.perf_counter()
        output = decoder.model.decoder(input_ids=token, encoder_hidden_states=hidden, past_key_values=cache, use_cache=True)
        logits = decoder.proj_out(output.last_hidden_state).float().cpu()
        spent.append((time.perf_counter() - started) * 1000)
    found["decoder"] = (logits, sorted(spent[3:])[(STEPS - 3) // 2])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1024, help="of the picture, pixels")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    geometry = json.loads((options.folder / "geometry.json").read_text())
    if geometry["family"] == "flux":
        found = flux(options.folder, geometry, options.device, options.size)
    else:
        found = whisper(options.folder, geometry, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    for part, (output, _) in found.items():
        output.float().cpu().numpy().astype(np.float32).tofile(options.out / f"{part}.f32")
    device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    times = {part: milliseconds for part, (_, milliseconds) in found.items()}
    (options.out / "torch.json").write_text(json.dumps({"torch": torch.__version__, "device": device, "ms": times}) + "\n")


if __name__ == "__main__":
    main()
