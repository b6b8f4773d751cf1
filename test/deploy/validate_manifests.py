"""Holds Kubernetes manifests to the schemas of several versions (kubernetes-validate) and of the operators' resources (cloudcoil's models).

Unknown fields count as wrong everywhere. Arguments: versions such as 1.30,1.34 (or "none": the files are only read), then YAML files. Prints one JSON object: `documents` by file,
`checks` (how many comparisons of a document with a schema were made) and `problems`.
"""

import functools
import importlib
import json
import sys
from typing import Any, Iterator

import kubernetes_validate.utils as schemas
import yaml
from pydantic import ValidationError

# Imported where they are needed: that takes seconds.
MODELS = {"monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1", "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1"}
# The package reads and parses its schemas, several megabytes, for each document anew.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
schemas.schema_contents = functools.cache(schemas.schema_contents)


def lost(given: Any, kept: Any, path: str) -> Iterator[str]:
    """Fields of a document that its model does not know: it leaves them out."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            if name in kept:
                yield from lost(value, kept[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (left, right) in enumerate(zip(given, kept, strict=True)):
            yield from lost(left, right, f"{path}[{index}]")


def problems_by_model(document: dict[str, Any]) -> Iterator[str]:
    model = getattr(importlib.import_module(MODELS[document["apiVersion"]]), document["kind"], None)
    if model is None:
        yield f"{document['apiVersion']} has no kind {document['kind']}"
        return
    try:
        parsed = model.model_validate(document)
    except ValidationError as error:
        yield from (f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        return
    kept = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
    yield from (f"{path} is no field of {document['kind']}" for path in lost(document, kept, document["kind"]))


def problems_by_version(document: dict[str, Any], version: str) -> Iterator[str]:
    try:
        used = schemas.validate(document, version, strict=True)
    except schemas.ValidationError as error:
        yield f"{version}: {'.'.join(map(str, error.path))}: {error.message}"
    except (schemas.SchemaNotFoundError, schemas.VersionNotSupportedError) as error:
        yield f"{version}: {error.message}"
    else:
        if used != version:
            yield f"{version}: the schemas of {used} were taken in its place"


def main() -> None:
    versions, files = sys.argv[1].split(","), sys.argv[2:]
    documents: dict[str, list[Any]] = {}
    problems: list[str] = []
    checks = 0
    for file in files:
        with open(file, encoding="utf8") as text:
            documents[file] = [document for document in yaml.load_all(text, LOADER) if document is not None]
        for document in [] if versions == ["none"] else documents[file]:
            name = f"{file}: {document.get('kind')} {document.get('metadata', {}).get('name')}"
            if document.get("apiVersion") in MODELS:
                found = list(problems_by_model(document))
                checks += 1
            else:
                found = [problem for version in versions for problem in problems_by_version(document, version)]
                checks += len(versions)
            problems += [f"{name}: {problem}" for problem in found]
    json.dump({"documents": documents, "checks": checks, "problems": problems}, sys.stdout)


main()
