#!/usr/bin/python3
"""Turns Kubernetes' own swagger.json, or a CRD, into one strict JSON schema for each kind, named as kubeconform asks.

    schemas.py FOLDER FILE...
"""

import json
import pathlib
import sys

import yaml


def strict(schema):
    """No field that is not known; numbers where Kubernetes takes them for strings."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def write(folder, group, version, kind, schema):
    name = "-".join(part for part in (kind, group.split(".")[0], version) if part).lower()
    (folder / f"{name}.json").write_text(json.dumps(schema))


def closure(definitions, name):
    """The definition and all it refers to."""
    found, waiting = {}, [name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = definitions[name]
            text = json.dumps(definitions[name])
            waiting += [part.split('"')[0] for part in text.split('"#/definitions/')[1:]]
    return found


def from_swagger(folder, swagger):
    definitions = strict(swagger["definitions"])
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
    for name, definition in swagger["definitions"].items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            schema = {"$ref": f"#/definitions/{name}", "definitions": closure(definitions, name)}
            write(folder, kind["group"], kind["version"], kind["kind"], schema)


def from_crd(folder, crd):
    spec = crd["spec"]
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {}}
        write(folder, spec["group"], version["name"], spec["names"]["kind"], strict(schema))


folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for file in sys.argv[2:]:
    with open(file) as text:
        loaded = json.load(text) if file.endswith(".json") else yaml.safe_load(text)
    (from_crd if loaded.get("kind") == "CustomResourceDefinition" else from_swagger)(folder, loaded)
