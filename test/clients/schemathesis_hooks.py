"""What no schema can say, for valid data of schemathesis: files are judged by their content, and an Idempotency-Key stands for one request."""

import base64
import json
import os
import re
import uuid
from pathlib import Path

import jsonschema_rs
import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.transport.serialization import Binary

MEDIA = Path(os.environ["SCHEMATHESIS_MEDIA"])
FILES = {
    "image": ("image/png", (MEDIA / "image.png").read_bytes()),
    "audio": ("audio/wav", (MEDIA / "audio.wav").read_bytes()),
    "video": ("video/mp4", (MEDIA / "video.mp4").read_bytes()),
}
LIBERAL = re.compile(r"|0|1|true|false|[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
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
    """A file that is one, in the place of text or bytes that are none. What stands for no file stays."""
    if isinstance(value, list):
        return [real(name, each, is_json) for each in value]
    if not isinstance(value, Binary) and not value:
        return value
    media_type, content = FILES[KINDS[name]]
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}" if is_json else Binary(content)


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.headers and case.headers.get("Idempotency-Key"):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if not isinstance(case.body, dict):
        return
    # Bytes are an empty text to its judge, so that it takes a file for none.
    if case.media_type == "multipart/form-data" and case.body.get("source_url"):
        case.body.pop("source_file", None)
    for name in KINDS.keys() & case.body.keys():
        case.body[name] = real(name, case.body[name], case.media_type == "application/json")
    # Bytes are judged as no string would be: the data is as valid as it was.
    case._meta.update_validated_hash(ParameterLocation.BODY, case._hash_container(case.body))
    case._meta.clear_dirty(ParameterLocation.BODY)


def read_as_another(value):
    """A text that counts as absent (empty, blank), as a switch or as a number, as in forms: clients send those in JSON, too."""
    return isinstance(value, str) and not isinstance(value, Binary) and LIBERAL.fullmatch(value.strip()) is not None


@schemathesis.hook
def filter_body(context, body):
    """What is the same for every field, and what schemas had better not repeat for each: an empty list counts as absent, as null does, blank
    texts too, switches and numbers may be texts, and NUL is refused in every text, those of fields that nobody knows included."""
    if not isinstance(body, dict):
        return True
    # A list of one is sent in a form as its member.
    values = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in body.values()]
    # `__proto__` is nobody's field: JSON with it is refused, however deep it stands.
    text = json.dumps(body, default=str)
    return [] not in values and not any(map(read_as_another, values)) and "\\u0000" not in text and "__proto__" not in text


def as_text(value):
    """A body as its schema sees it: bytes are texts."""
    if isinstance(value, Binary):
        return value.data.decode("latin-1")
    if isinstance(value, dict):
        return {name: as_text(each) for name, each in value.items()}
    return [as_text(each) for each in value] if isinstance(value, list) else value


@schemathesis.hook
def filter_case(context, case):
    """Data that one branch of an `anyOf` refuses and another takes is valid, although the generator counts it as a fault."""
    meta = case.meta
    if meta is None or meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return True
    if [each for each in ParameterLocation if meta.is_negative_at(each)] != [ParameterLocation.BODY]:
        return True
    body = case.operation.get_body_for_media_type(case.media_type)
    return body is None or not jsonschema_rs.validator_for(body.validation_schema).is_valid(as_text(case.body))


@schemathesis.hook
def filter_query(context, query):
    """An empty value counts as absent, in queries as in bodies, and so does a list that is sent as one."""
    values = [each for value in (query or {}).values() for each in (value if isinstance(value, list) else [value])]
    return "" not in values and None not in values
