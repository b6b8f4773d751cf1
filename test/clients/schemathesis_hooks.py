"""What no schema can say, for valid data of schemathesis: files are judged by their content, and an Idempotency-Key stands for one request."""

import base64
import os
import uuid
from pathlib import Path

import schemathesis
from schemathesis.transport.serialization import Binary

MEDIA = Path(os.environ["SCHEMATHESIS_MEDIA"])
FILES = {
    "image": ("image/png", (MEDIA / "image.png").read_bytes()),
    "audio": ("audio/wav", (MEDIA / "audio.wav").read_bytes()),
    "video": ("video/mp4", (MEDIA / "video.mp4").read_bytes()),
}
KINDS = {
    "image": "image",
    "images": "image",
    "first_frame_image": "image",
    "last_frame_image": "image",
    "audio": "audio",
    "ref_audio": "audio",
    "reference_audio": "audio",
    "source_file": "audio",
    "video": "video",
}


def real(name, value, is_json):
    """A file that is one, in the place of text that only looks like one."""
    media_type, content = FILES[KINDS[name]]
    if isinstance(value, list):
        return [real(name, each, is_json) for each in value]
    if is_json:
        return f"data:{media_type};base64,{base64.b64encode(content).decode()}" if value else value
    return Binary(content)


@schemathesis.hook
def before_call(context, case, kwargs):
    is_valid = case.meta is None or case.meta.generation.mode.is_positive
    if is_valid and isinstance(case.body, dict):
        is_json = case.media_type == "application/json"
        for name in KINDS.keys() & case.body.keys():
            case.body[name] = real(name, case.body[name], is_json)
    if is_valid and case.headers and case.headers.get("Idempotency-Key"):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
