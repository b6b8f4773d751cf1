"""A POST without a body as aiohttp and httpx send it, whatever type they claim. Prints one JSON object: status by case."""

import asyncio
import json
import os

import aiohttp
import httpx

URL = os.environ["DRYAPI_URL"]
HEADERS = {"Authorization": f"Bearer {os.environ['DRYAPI_KEY']}"}
CANCEL = f"{URL}/api/v1/client/requests/{os.environ['REQUEST']}/cancel"
SUBMIT = f"{URL}/api/v1/client/txt2img"
TYPES = ["text/plain", "application/json", "application/octet-stream", "multipart/form-data", "application/x-www-form-urlencoded"]


async def empty_chunks():
    return
    yield b""


async def main() -> None:
    answers: dict[str, int] = {}
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        async with session.post(CANCEL) as answer:
            answers["aiohttp cancel"] = answer.status
        for body in [b"", "", {}]:
            async with session.post(SUBMIT, data=body) as answer:
                answers[f"aiohttp submit {body!r}"] = answer.status
        for type_ in TYPES:
            async with session.post(SUBMIT, data=empty_chunks(), headers={"Content-Type": type_}) as answer:
                answers[f"aiohttp chunked {type_}"] = answer.status
        async with session.post(SUBMIT, data=b"x", headers={"Content-Type": "application/octet-stream"}) as answer:
            answers["aiohttp bytes"] = answer.status
    with httpx.Client(headers=HEADERS) as client:
        answers["httpx cancel"] = client.post(CANCEL).status_code
        for type_ in TYPES:
            answers[f"httpx {type_}"] = client.post(SUBMIT, headers={"Content-Type": type_}).status_code
            chunked = client.post(SUBMIT, content=iter([]), headers={"Content-Type": type_})
            answers[f"httpx chunked {type_}"] = chunked.status_code
    print(json.dumps(answers))


asyncio.run(main())
