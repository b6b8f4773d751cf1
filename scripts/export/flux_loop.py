"""Flux written a second time, in numpy on onnxruntime sessions: neither torch nor diffusers runs here.

It exists to prove that the exported parts are right and that the goldens can be met from them alone.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers import Regex as Pattern

ELEMENT = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
CHANNELS, SCALING, SHIFT = 16, np.float32(0.3611), np.float32(0.1159)


class Layout:
    """Where a part's graph is and what its tensors are called; roles that are not named have the Optimum name."""

    def __init__(self, files: dict[str, str], names: dict[str, dict[str, str]]):
        self.files, self.names = files, names


OPTIMUM = Layout({part: f"{part}/model.onnx" for part in ("text_encoder", "text_encoder_2", "transformer", "vae_encoder", "vae_decoder")}, {})
BFL = Layout(
    {
        "text_encoder": "clip.opt/model.onnx",
        "text_encoder_2": "t5.opt/model.onnx",
        "transformer": "transformer.opt/fp16/model.onnx",
        "vae_decoder": "vae.opt/model.onnx",
    },
    {
        "text_encoder": {"last_hidden_state": "text_embeddings", "pooler_output": "pooled_embeddings"},
        "text_encoder_2": {"last_hidden_state": "text_embeddings"},
        "transformer": {"out_hidden_states": "latent"},
        "vae_decoder": {"latent_sample": "latent", "sample": "images"},
    },
)


class Part:
    """One graph: takes and gives float arrays by role, in whatever type and rank the graph declares."""

    def __init__(self, file: Path, names: dict[str, str]):
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.names = names
        self.inputs = {value.name: value for value in self.session.get_inputs()}

    def takes(self, role: str) -> bool:
        return self.names.get(role, role) in self.inputs

    def run(self, output: str, **values: np.ndarray) -> np.ndarray:
        feeds = {}
        for role, value in values.items():
            name = self.names.get(role, role)
            declared = self.inputs[name]
            if len(declared.shape) == value.ndim + 1:
                value = np.repeat(value[None], next(iter(feeds.values())).shape[0], axis=0)
            feeds[name] = np.ascontiguousarray(value.astype(ELEMENT[declared.type]))
        return self.session.run([self.names.get(output, output)], feeds)[0].astype(np.float32)


def clip_tokenizer(folder: Path) -> Tokenizer:
    """The fast CLIP tokenizer, made from vocab.json and merges.txt alone: the real repositories have no tokenizer.json."""
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    merges = [tuple(line.split()) for line in (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:] if line]
    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=end, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Pattern(r"\s+"), " "), normalizers.Lowercase()])
    words = Pattern(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=(end, vocabulary[end]), cls=("<|startoftext|>", vocabulary["<|startoftext|>"]), add_prefix_space=False, trim_offsets=False
    )
    # A prompt may contain the marks themselves; transformers reads them as such, in their exact spelling.
    tokenizer.add_special_tokens([AddedToken("<|startoftext|>", normalized=False), AddedToken(end, normalized=False)])
    tokenizer.enable_truncation(77)
    tokenizer.enable_padding(length=77, pad_id=vocabulary[end], pad_token=end)
    return tokenizer


def t5_tokenizer(folder: Path, length: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=0, pad_token="<pad>")
    return tokenizer


class TorchNoise:
    """torch's CPU generator for draws of 16 and more values (DistributionTemplates.h, normal_fill), on numpy's Mersenne Twister."""

    def __init__(self, seed: int):
        self.bits = np.random.RandomState(seed & 0xFFFFFFFF)._bit_generator

    def uniform(self, count: int) -> np.ndarray:
        return ((self.bits.random_raw(count) & 0xFFFFFF) / np.float64(2**24)).astype(np.float32)

    def normal(self, *shape: int) -> np.ndarray:
        count = int(np.prod(shape))
        assert count >= 16 and count % 16 == 0, "latents always have a multiple of 16 values"
        blocks = self.uniform(count).reshape(-1, 2, 8)
        radius = np.sqrt(-2 * np.log(1 - blocks[:, 0]))
        angle = np.float32(2 * np.pi) * blocks[:, 1]
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32).reshape(shape)


def pack(latent: np.ndarray) -> np.ndarray:
    batch, channels, height, width = latent.shape
    cells = latent.reshape(batch, channels, height // 2, 2, width // 2, 2).transpose(0, 2, 4, 1, 3, 5)
    return cells.reshape(batch, height * width // 4, channels * 4)


def unpack(tokens: np.ndarray, height: int, width: int) -> np.ndarray:
    cells = tokens.reshape(-1, height // 2, width // 2, CHANNELS, 2, 2).transpose(0, 3, 1, 4, 2, 5)
    return cells.reshape(-1, CHANNELS, height, width)


def sigmas(config: dict, steps: int, tokens: int) -> np.ndarray:
    sigma = np.linspace(1.0, 1 / steps, steps).astype(np.float32)
    if config["use_dynamic_shifting"]:
        slope = (config["max_shift"] - config["base_shift"]) / (config["max_image_seq_len"] - config["base_image_seq_len"])
        exponent = tokens * slope + config["base_shift"] - slope * config["base_image_seq_len"]
        sigma = np.exp(exponent) / (np.exp(exponent) + (1 / sigma - 1))
    else:
        sigma = config["shift"] * sigma / (1 + (config["shift"] - 1) * sigma)
    return np.append(sigma, 0).astype(np.float32)


class Flux:
    """One model folder, ready to run golden cases."""

    def __init__(self, folder: Path, layout: Layout = OPTIMUM):
        self.folder = folder
        self.parts = {part: Part(folder / file, layout.names.get(part, {})) for part, file in layout.files.items()}
        self.schedule = json.loads((folder / "scheduler/scheduler_config.json").read_text())

    def ids(self, prompts: list[str], t5_length: int) -> tuple[np.ndarray, np.ndarray]:
        clip = clip_tokenizer(self.folder / "tokenizer").encode_batch(prompts)
        t5 = t5_tokenizer(self.folder / "tokenizer_2", t5_length).encode_batch(prompts)
        return np.array([text.ids for text in clip]), np.array([text.ids for text in t5])

    def start(self, case: dict, sigma: np.ndarray, images: Path, noises: list[TorchNoise]) -> tuple[np.ndarray, int]:
        """The latents before the first step, and the index of that step."""
        shape = (1, CHANNELS, case["height"] // 8, case["width"] // 8)
        if case["task"] == "txt2img":
            return pack(np.concatenate([noise.normal(*shape) for noise in noises])), 0
        first = int(max(case["steps"] - min(case["steps"] * case["strength"], case["steps"]), 0))
        picture = Image.open(images / case["image"]).convert("RGB").resize((case["width"], case["height"]), Image.Resampling.LANCZOS)
        sample = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)[None] / 255 * 2 - 1
        mean, variance = np.split(self.parts["vae_encoder"].run("latent_parameters", sample=sample), 2, axis=1)
        # The order of the two draws decides the picture: first the posterior's, then the noise.
        posterior = mean + np.exp(0.5 * np.clip(variance, -30, 20)) * noises[0].normal(*shape)
        clean = (posterior - SHIFT) * SCALING
        return pack(sigma[first] * noises[0].normal(*shape) + (1 - sigma[first]) * clean), first

    def run(self, case: dict, images: Path) -> tuple[np.ndarray, np.ndarray]:
        """@return latents before the first and after each step, and pixels [batch, height, width, 3] of 0..255, not rounded."""
        prompts = case["prompt"] if isinstance(case["prompt"], list) else [case["prompt"]]
        seeds = case["seed"] if isinstance(case["seed"], list) else [case["seed"]]
        clip_ids, t5_ids = self.ids(prompts, case["max_sequence_length"])
        pooled = self.parts["text_encoder"].run("pooler_output", input_ids=clip_ids)
        text = self.parts["text_encoder_2"].run("last_hidden_state", input_ids=t5_ids)

        rows, columns = case["height"] // 16, case["width"] // 16
        sigma = sigmas(self.schedule, case["steps"], rows * columns)
        latents, first = self.start(case, sigma, images, [TorchNoise(seed) for seed in seeds])
        down, across = np.mgrid[0:rows, 0:columns]
        image_ids = np.stack([np.zeros_like(down), down, across], axis=-1).reshape(-1, 3)

        transformer, record = self.parts["transformer"], [latents]
        for step in range(first, case["steps"]):
            values = {
                "hidden_states": latents,
                "encoder_hidden_states": text,
                "pooled_projections": pooled,
                "timestep": np.full(len(prompts), sigma[step]),
                "img_ids": image_ids,
                "txt_ids": np.zeros((text.shape[1], 3)),
            }
            if transformer.takes("guidance"):
                values["guidance"] = np.full(len(prompts), case["guidance"])
            latents = latents + (sigma[step + 1] - sigma[step]) * transformer.run("out_hidden_states", **values)
            record.append(latents)

        decoded = self.parts["vae_decoder"].run("sample", latent_sample=unpack(latents, rows * 2, columns * 2) / SCALING + SHIFT)
        return np.stack(record), np.clip(decoded * 0.5 + 0.5, 0, 1).transpose(0, 2, 3, 1) * 255
