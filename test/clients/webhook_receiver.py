"""A receiver of webhooks as a stranger writes one: aiohttp, pydantic's strict models of the documented shapes, and the verifier of PyPI's
`standardwebhooks`; the contract's own signature is compared as a whole, as its public SDK and its n8n node do it.

Environment: DRYAPI_URL, DRYAPI_KEY (an account without a webhook), DRYAPI_PREFIX (of the contract's headers), JOB (JSON of a txt2img request).
Prints what arrived as JSON; exits with an error at the first thing that is not as documented.
"""

import asyncio
import hashlib
import hmac
import json
import os
import time
import uuid
from datetime import datetime
from typing import Annotated, Literal, Union

from aiohttp import ClientSession, web
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter
from standardwebhooks import Webhook, WebhookVerificationError

API = os.environ["DRYAPI_URL"] + "/api/v1/client"
HEADERS = {"Authorization": "Bearer " + os.environ["DRYAPI_KEY"]}
PREFIX = os.environ["DRYAPI_PREFIX"]
JOB = json.loads(os.environ["JOB"])


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Facts(Strict):
    job_request_id: uuid.UUID
    previous_status: Literal["pending", "processing"]
    job_type: str


class Processing(Facts):
    status: Literal["processing"]
    started_at: datetime


class Completed(Facts):
    status: Literal["done"]
    completed_at: datetime
    result_url: HttpUrl
    processing_time_ms: int


class Failed(Facts):
    # What a failed request tells beyond the contract grows with versions: the field that was at fault, say.
    model_config = ConfigDict(extra="allow")
    status: Literal["error"]
    failed_at: datetime
    error_code: str
    error_message: str
    error_reason: str
    retryable: bool


class Event(Strict):
    delivery_id: uuid.UUID
    timestamp: datetime


class ProcessingEvent(Event):
    event: Literal["job.processing"]
    data: Processing


class CompletedEvent(Event):
    event: Literal["job.completed", "webhook.test"]
    data: Completed


class FailedEvent(Event):
    event: Literal["job.failed"]
    data: Failed


EVENTS = TypeAdapter(Annotated[Union[ProcessingEvent, CompletedEvent, FailedEvent], Field(discriminator="event")])


class Receiver:
    """Takes what `secret` signed, by one of the two schemes; answers 403 to the rest, as the public SDK's example does."""

    def __init__(self):
        self.secret = ""
        self.scheme = "standard"
        self.taken = asyncio.Queue()
        self.refused = 0

    async def handle(self, request):
        body = await request.read()
        if not (self.by_standard if self.scheme == "standard" else self.by_contract)(body, request.headers):
            self.refused += 1
            return web.json_response({"error": "Invalid signature"}, status=403)
        event = EVENTS.validate_json(body)
        assert request.headers[PREFIX + "-Event"] == event.event
        assert request.headers[PREFIX + "-Delivery-Id"] == request.headers["webhook-id"] == str(event.delivery_id)
        self.taken.put_nowait(event)
        return web.json_response({"ok": True})

    def by_standard(self, body, headers):
        try:
            Webhook(self.secret).verify(body, dict(headers))
            return True
        except WebhookVerificationError:
            return False

    def by_contract(self, body, headers):
        timestamp = headers[PREFIX + "-Timestamp"]
        assert abs(time.time() - int(timestamp)) <= 300
        digest = hmac.new(self.secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest("sha256=" + digest, headers[PREFIX + "-Signature"])


async def call(session, method, path, body=None):
    async with session.request(method, API + path, json=body or {}, headers=HEADERS) as response:
        answer = await response.json()
        assert response.status == 200, (method, path, response.status, answer)
        return answer["data"]


async def main():
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"
    seen = []
    async with ClientSession() as session:
        made = await call(session, "POST", "/settings/webhook/secret")
        receiver.secret = made["secret"]

        for scheme in ("standard", "contract"):
            receiver.scheme = scheme
            for name in ("webhook.test", "job.processing", "job.completed", "job.failed"):
                tested = await call(session, "POST", "/settings/webhook/test", {"url": url, "event": name})
                assert tested["delivered"] and tested["signed_with"] == "account", tested
                event = await receiver.taken.get()
                assert event.event == name, event
                if name in ("webhook.test", "job.completed"):
                    async with session.get(str(event.data.result_url)) as result:
                        assert result.status == 200 and len(await result.read()) > 0, "the result of a test can be fetched"
                seen.append(name)

        renewed = await call(session, "POST", "/settings/webhook/secret", {"replace": True, "overlap_hours": 1})
        assert renewed["secret"] != made["secret"] and renewed["previous_secret_expires_at"] is not None
        for secret, scheme, signed_with, refused in (
            (made["secret"], "contract", "account_previous", 0),
            (made["secret"], "standard", "account_previous", 0),
            (renewed["secret"], "standard", "account_previous", 0),
            (renewed["secret"], "contract", "account", 1),
            (renewed["secret"], "contract", "account", 0),
        ):
            receiver.secret, receiver.scheme, receiver.refused = secret, scheme, 0
            tested = await call(session, "POST", "/settings/webhook/test", {"url": url})
            assert (tested["delivered"], tested["signed_with"], receiver.refused) == (True, signed_with, refused), (tested, receiver.refused)
            await receiver.taken.get()

        settings = await call(session, "DELETE", "/settings/webhook/secret/previous")
        assert settings["previous_secret_expires_at"] is None
        submitted = await call(session, "POST", "/txt2img", {**JOB, "webhook_url": url})
        await call(session, "POST", f"/requests/{submitted['request_id']}/cancel")
        event = await receiver.taken.get()
        assert str(event.data.job_request_id) == submitted["request_id"] and event.data.error_code == "CANCELLED", event
        seen.append(event.event)
    await runner.cleanup()
    print(json.dumps({"seen": seen}))


asyncio.run(asyncio.wait_for(main(), 200))
