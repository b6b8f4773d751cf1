"""Real pysher (protocol 6): subscribes to its client's channel, submits one request, prints its updates as JSON, one a line, to the end.

usage: pysher_follow.py URL KEY CHANNEL
"""

import json
import queue
import sys
from urllib.parse import urlparse

import pysher
import requests

WAIT_S = 120

url, key, channel_name = sys.argv[1:]
address = urlparse(url)
headers = {"Authorization": f"Bearer {key}"}
told = queue.Queue()

client = pysher.Pusher(
    "dryapi",
    secure=False,
    custom_host=address.hostname,
    port=address.port,
    auth_endpoint=f"{url}/broadcasting/auth",
    auth_endpoint_headers=headers,
)


def on_connected(_data):
    channel = client.subscribe(channel_name)
    channel.bind("pusher_internal:subscription_succeeded", lambda data: told.put(("subscribed", data)))
    channel.bind("request.status.updated", lambda data: told.put(("update", data)))


client.connection.bind("pusher:connection_established", on_connected)
client.connect()
what, _ = told.get(timeout=WAIT_S)
assert what == "subscribed", what
body = {"model": "fake", "prompt": "x", "width": 64, "height": 64, "steps": 2}
answer = requests.post(f"{url}/api/v1/client/txt2img", json=body, headers=headers, timeout=WAIT_S)
answer.raise_for_status()
request_id = answer.json()["data"]["request_id"]
while True:
    what, data = told.get(timeout=WAIT_S)
    update = json.loads(data)
    if update["request_id"] != request_id:
        continue
    print(json.dumps(update))
    if update["status"] in ("done", "error"):
        break
# Its disconnect() waits up to 100 s for a select() of its own thread; that thread ends with the program.
client.unsubscribe(channel_name)
