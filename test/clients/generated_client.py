"""Uses the API with the client that openapi-python-client made of it; prints what came of it as JSON. Arguments: URL, key, a picture."""

import importlib
import json
import pkgutil
import sys
from pathlib import Path

import dryapi_client
from dryapi_client import AuthenticatedClient
from dryapi_client.api.catalogue import list_models
from dryapi_client.api.requests import cancel_request, list_requests, request_status
from dryapi_client.api.tasks import img2img, txt2img, txt_2_img_price
from dryapi_client.models import (
    Img2ImgFilesBody,
    Img2ImgFilesBodyModel,
    InvalidProblem,
    ListRequestsStatus,
    Txt2ImgJsonBody,
    Txt2ImgJsonBodyModel,
    Txt2ImgPriceJsonBody,
    Txt2ImgPriceJsonBodyModel,
)
from dryapi_client.types import File

# All of it can be loaded, not only what is used below.
for module in pkgutil.walk_packages(dryapi_client.__path__, "dryapi_client."):
    importlib.import_module(module.name)

url, key, picture = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True)
SCHNELL = "tiny-flux-schnell"


def body(prompt):
    return Txt2ImgJsonBody(model=Txt2ImgJsonBodyModel(SCHNELL), prompt=prompt, width=64, height=64)


submitted = txt2img.sync(client=client, body=body("a fox"))
refused = txt2img.sync(client=client, body=body(" "))
assert isinstance(refused, InvalidProblem), refused
price = txt_2_img_price.sync(client=client, body=Txt2ImgPriceJsonBody(model=Txt2ImgPriceJsonBodyModel(SCHNELL)))
models = list_models.sync(client=client, page=1, limit=10)
request_id = submitted.data.request_id
status = request_status.sync(client=client, id=request_id)
listed = list_requests.sync(client=client, status=ListRequestsStatus.PENDING)
cancelled = cancel_request.sync(client=client, id=request_id)
with Path(picture).open("rb") as file:
    image = File(payload=file, file_name="picture.png", mime_type="image/png")
    form = Img2ImgFilesBody(model=Img2ImgFilesBodyModel(SCHNELL), prompt="a fox", image=image, strength=0.5)
    uploaded = img2img.sync(client=client, body=form)

print(
    json.dumps(
        {
            "id": str(request_id),
            "refused": refused.errors.additional_properties,
            "price": price.data.price,
            "models": [model.slug for model in models.data],
            "status": status.data.status.value,
            "prompt": status.data.params.additional_properties["prompt"],
            "listed": [str(entry.request_id) for entry in listed.data],
            "cancelled": [cancelled.data.status.value, cancelled.data.error_code.value],
            "uploaded": str(uploaded.data.request_id),
        }
    )
)
