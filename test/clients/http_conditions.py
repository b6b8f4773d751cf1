"""Conditions and ranges of a result link and compressed lists, as httpx and Python's own MIME parser see them.

Arguments: the result link of a finished job, the gateway's address, a key. Prints what it has seen as JSON.
"""

import json
import sys
from email.message import Message
from email.parser import BytesParser
from email.utils import format_datetime, parsedate_to_datetime
from datetime import timedelta

import httpx

link, base, key = sys.argv[1:]
client = httpx.Client()

whole = client.get(link)
assert whole.status_code == 200, whole
etag, modified = whole.headers["etag"], whole.headers["last-modified"]
size = len(whole.content)
assert whole.headers["accept-ranges"] == "bytes" and int(whole.headers["content-length"]) == size
at = parsedate_to_datetime(modified)
earlier, later = (format_datetime(at + timedelta(seconds=s), usegmt=True) for s in (-1, 1))


def get(method="GET", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(method, link, headers=names)


# Conditions: status by headers
for expected, headers in [
    (304, {"if_none_match": etag}),
    (304, {"if_none_match": f"W/{etag}"}),
    (304, {"if_none_match": f'"other", {etag}'}),
    (304, {"if_none_match": "*"}),
    (200, {"if_none_match": '"other"'}),
    (304, {"if_modified_since": modified}),
    (304, {"if_modified_since": later}),
    (200, {"if_modified_since": earlier}),
    (200, {"if_none_match": '"other"', "if_modified_since": later}),
    (200, {"if_match": etag}),
    (412, {"if_match": f"W/{etag}"}),
    (412, {"if_match": '"other"'}),
    (412, {"if_unmodified_since": earlier}),
    (200, {"if_unmodified_since": modified}),
    (412, {"if_match": '"other"', "if_none_match": etag}),
    (304, {"if_none_match": etag, "range": "bytes=0-1"}),
    (206, {"if_match": etag, "range": "bytes=0-1"}),
    (206, {"if_range": etag, "range": "bytes=0-1"}),
    (206, {"if_range": modified, "range": "bytes=0-1"}),
    (200, {"if_range": earlier, "range": "bytes=0-1"}),
    (200, {"if_range": f"W/{etag}", "range": "bytes=0-1"}),
    (416, {"range": f"bytes={size}-"}),
    (200, {"range": f"bytes={size}-", "if_range": '"other"'}),
]:
    answer = get(**headers)
    assert answer.status_code == expected, (headers, answer.status_code, expected)
    if expected == 304:
        assert answer.headers["etag"] == etag and answer.content == b"" and "cache-control" in answer.headers
    if expected == 416:
        assert answer.headers["content-range"] == f"bytes */{size}" and answer.json()["message"]
    if expected == 412:
        assert answer.json()["message"] and answer.headers["content-type"].startswith("application/json")

# One part
for spec, part in [("0-9", slice(0, 10)), ("10-", slice(10, None)), ("-7", slice(-7, None)), (f"5-{size * 2}", slice(5, None))]:
    answer = get(range=f"bytes={spec}")
    assert answer.status_code == 206 and answer.content == whole.content[part], spec
    start = range(size)[part].start
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(answer.content) - 1}/{size}"

# Several parts, read by a MIME parser
answer = get(range="bytes=0-3, 20-29, -5")
assert answer.status_code == 206 and int(answer.headers["content-length"]) == len(answer.content)
head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
parts: list[Message] = BytesParser().parsebytes(head + answer.content).get_payload()
seen = [(part["content-range"], part.get_content_type(), part.get_payload(decode=True)) for part in parts]
kind = whole.headers["content-type"]
assert seen == [
    (f"bytes 0-3/{size}", kind, whole.content[:4]),
    (f"bytes 20-29/{size}", kind, whole.content[20:30]),
    (f"bytes {size - 5}-{size - 1}/{size}", kind, whole.content[-5:]),
], seen

# HEAD: as GET, without the body, and without ranges
answer = get("HEAD", range="bytes=0-1")
assert answer.status_code == 200 and answer.content == b""
for name in ("content-length", "content-type", "etag", "last-modified", "accept-ranges", "cache-control"):
    assert answer.headers[name] == whole.headers[name], name
assert get("HEAD", if_none_match=etag).status_code == 304

# A download that broke off goes on where it was
with client.stream("GET", link) as broken:
    first = next(broken.iter_raw(64))
rest = get(range=f"bytes={len(first)}-", if_range=etag)
assert rest.status_code == 206 and first + rest.content == whole.content

# httpx asks for compressed answers by itself, and undoes them
api = httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"})
document = api.get("/openapi.json")
assert document.headers["content-encoding"] == "gzip" and document.json()["openapi"].startswith("3.1")
assert whole.headers.get("content-encoding") is None
unknown = api.request("DELETE", "/api/v1/client/balance")
assert unknown.status_code == 405 and unknown.headers["allow"] == "GET, HEAD, OPTIONS"
print(json.dumps({"size": size, "etag": etag}))
