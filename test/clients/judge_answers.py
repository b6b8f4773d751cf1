"""Judges answers by the schemas of an OpenAPI document, with no field beyond those that are described. Arguments: the document, the answers
(`[{"what", "schema", "value"}]`, a schema being a name of components or a schema itself). Prints what is wrong as JSON."""

import json
import sys

import jsonschema_rs


def closed(schema):
    """The same, and nothing else."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    return {**inner, "additionalProperties": False} if "properties" in schema and "additionalProperties" not in schema else inner


with open(sys.argv[1]) as file:
    components = {"schemas": closed(json.load(file)["components"]["schemas"])}
with open(sys.argv[2]) as file:
    answers = json.load(file)

problems = []
for answer in answers:
    schema = answer["schema"]
    own = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else closed(schema)
    judge = jsonschema_rs.Draft202012Validator({**own, "components": components}, validate_formats=True)
    for error in judge.iter_errors(answer["value"]):
        problems.append(f"{answer['what']}: {error.message} at {list(error.instance_path)}")
print(json.dumps(problems))
