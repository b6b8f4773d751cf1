"""Prices and data URIs as public Python clients send them with httpx and aiohttp. Prints one JSON object: status and body by case."""

import asyncio
import base64
import json
import os

import aiohttp
import httpx

URL = f"{os.environ['DRYAPI_URL']}/api/v1/client"
HEADERS = {"Authorization": f"Bearer {os.environ['DRYAPI_KEY']}"}
SOUND = os.environ["SOUND"]
PICTURE = os.environ["PICTURE"]


def uri(path: str, type_: str) -> str:
    with open(path, "rb") as file:
        return f"data:{type_};base64,{base64.b64encode(file.read()).decode()}"


async def main() -> None:
    answers: dict[str, object] = {}

    def keep(name: str, status: int, body: object) -> None:
        answers[name] = {"status": status, "body": body}

    whisper = {"model": "tiny-whisper", "include_ts": "1"}
    with httpx.Client(headers=HEADERS, timeout=120) as client:

        def post(name: str, path: str, **options: object) -> None:
            answer = client.post(f"{URL}/{path}", **options)
            keep(name, answer.status_code, answer.json())

        # The Python SDK's way: the file in multipart, else JSON.
        with open(SOUND, "rb") as sound:
            post("price with file", "audiofile2txt/price-calculation", data=whisper, files={"audio": ("a", sound)})
        with open(SOUND, "rb") as sound:
            data = {**whisper, "duration_seconds": 12.5}
            post("price with both", "transcribe/price-calculation", data=data, files={"source_file": ("a", sound)})
        post("price by length", "audiofile2txt/price-calculation", json={**whisper, "include_ts": True, "duration_seconds": 12.5})
        # The MCP server's way: a form; with the multipart type where there is a file only.
        post("price by form", "videofile2txt/price-calculation", data={**whisper, "duration_seconds": "90"})
        post("price by multipart", "videofile2txt/price-calculation", data=whisper, files={"duration_seconds": (None, "90")})
        post("price of an address", "vid2txt/price-calculation", json={"model": "tiny-whisper", "include_ts": True, "video_url": "https://example.com/a.mp4"})
        post("price of nothing", "transcribe/price-calculation", json={"model": "tiny-whisper", "include_ts": True})
        post("price with a wrong file", "audiofile2txt/price-calculation", data=whisper, files={"audio": ("a", b"no sound")})
        post("price with a wrong length", "audiofile2txt/price-calculation", json={**whisper, "duration_seconds": -1})
        post("price with what is unknown", "audiofile2txt/price-calculation", json={**whisper, "colour": "red"})
        post("price of text", "txt2audio/price-calculation", json={"model": "tiny-kokoro", "count_text": 40, "lang": "en-us", "speed": 1, "format": "mp3", "sample_rate": 24000})

        picture = uri(PICTURE, "image/png")
        image = {"model": "tiny-flux-schnell", "prompt": "snow", "steps": 2, "seed": 1}
        post("data URI", "img2img", json={**image, "image": picture})
        post("list of data URIs", "img2img", json={**image, "images": [picture]})
        post("form with a data URI", "img2img", data={**image, "image": picture})
        post("bare base64", "img2img", json={**image, "image": picture.split(",")[1]})
        post("an address", "img2img", json={**image, "image": "https://example.com/fox.png"})
        post("a number", "img2img", json={**image, "image": 5})
        post("a data URI that is no picture", "img2img", json={**image, "image": "data:image/png;base64,bm8gcGljdHVyZQ=="})
        post("a video URI on audio", "audiofile2txt", json={"model": "tiny-whisper", "include_ts": True, "video": uri(SOUND, "video/mp4")})
        post("sound", "audiofile2txt", json={"model": "tiny-whisper", "include_ts": True, "audio": uri(SOUND, "audio/wav")})
        post("transcribe", "transcribe", json={"model": "tiny-whisper", "include_ts": True, "source_file": uri(SOUND, "audio/wav")})
        # As the MCP server sends every txt2img.
        mcp = {"model": "tiny-flux-schnell", "prompt": "fox", "width": 64, "height": 64, "steps": 4, "guidance_scale": 7.5, "seed": -1}
        post("MCP", "txt2img", json={**mcp, "return_result_in_response": False})
        post("PHP's loras", "img2img", data={**image, "image": picture, "loras[0][name]": "ink", "loras[0][weight]": "1"})
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        form = aiohttp.FormData({**whisper, "duration_seconds": "3"}, default_to_multipart=True)
        async with session.post(f"{URL}/audiofile2txt/price-calculation", data=form) as answer:
            keep("aiohttp price", answer.status, await answer.json())
        async with session.post(f"{URL}/img2img", json={**image, "image": picture}) as answer:
            keep("aiohttp data URI", answer.status, await answer.json())
    print(json.dumps(answers))


asyncio.run(main())
