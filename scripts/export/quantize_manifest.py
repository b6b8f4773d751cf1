"""The manifest (model.json) of a model before and after quantize.py: where its parts are, and what is pinned and stated of the new ones."""

import json
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# What is quantised unless --parts says otherwise: the rest of a model is small, or (decoders of pictures) shows every error.
FAMILY_PARTS = {
    "flux": {"text_encoder_2": "text_encoder_2/model.onnx", "transformer": "transformer/model.onnx"},
    "ltx-video": {"text_encoder": "text_encoder/model.onnx", "transformer": "transformer/model.onnx"},
    "whisper": {"encoder": "onnx/encoder_model.onnx", "decoder": "onnx/decoder_model_merged.onnx"},
}


@dataclass(frozen=True)
class Done:
    """One part as it lies in OUT, and what became of its weights."""

    bits: int
    # Its entry of the manifest, with names as they are in its folder.
    data: dict[str, object]
    bytes_before: int
    bytes_after: int
    largest: int
    peak: int


def write_manifest(manifest: dict, target: Path, parts: dict[str, tuple[str, Done]], slug: str) -> None:
    """The float model's manifest with the quantised parts, less memory, and a name that says what it is."""
    bits = "/".join(sorted({str(done.bits) for _, done in parts.values()}))
    manifest = {key: value for key, value in manifest.items() if key != "$schema"} | {"slug": slug, "name": f"{manifest['name']}, int{bits} weights"}
    for part, (file, done) in parts.items():
        folder = Path(file).parent
        entry = manifest.setdefault("parts", {}).setdefault(part, {})
        entry.update(done.data | {"file": file, "externalData": [each | {"file": str(folder / each["file"])} for each in done.data["externalData"]]})
    saved = sum(done.bytes_before - done.bytes_after for _, done in parts.values())
    manifest["memoryBytes"] = {kind: max(value - saved, value // 8) for kind, value in manifest["memoryBytes"].items()}
    (target / "model.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def find_manifest(source: Path, given: Path | None) -> dict:
    places = [given] if given else [source / "model.json", REPOSITORY / "models" / source.name / "model.json"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise SystemExit(f"no manifest: expected one of {', '.join(map(str, places))}; name one with --manifest, e.g. models/Flux1schnell/model.json")
    return json.loads(found.read_text(encoding="utf-8"))
