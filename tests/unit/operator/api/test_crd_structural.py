"""The generated CRD is structural, documented, bounded and carries its CEL rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Field

from diffusion_operator.api.base import ApiModel
from diffusion_operator.api.crd import crd
from diffusion_operator.api.schema import structural_schema

VERSION = crd()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
# Copied from Kubernetes' own types, which spell their values in their own way.
FOREIGN_ENUMS = re.compile(
    r"\.(tolerations\[\]\.(operator|effect)|affinity\..*\.operator|conditions\[\]\.status)$"
)


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}.*")


NODES = list(walk(SCHEMA))


def test_every_node_is_structural() -> None:
    problems = []
    for path, node in NODES:
        if node.get("x-kubernetes-int-or-string"):
            allowed = node["anyOf"] == [{"type": "integer"}, {"type": "string"}] and "type" not in node
        else:
            allowed = node.get("type") in ("object", "array", "string", "integer", "number", "boolean")
            allowed = allowed and not {"anyOf", "oneOf", "allOf", "$ref", "nullable"} & node.keys()
        if "properties" in node and "additionalProperties" in node:
            allowed = False
        if not allowed:
            problems.append(path)
    assert problems == []


def test_every_field_is_documented() -> None:
    silent = [
        path
        for path, node in NODES
        if path not in ("", ".metadata")
        and not path.endswith(("[]", ".*"))
        and len(node.get("description", "")) < 8
    ]
    assert silent == []


def test_every_enum_is_lower_camel() -> None:
    wrong = [
        (path, value)
        for path, node in NODES
        for value in node.get("enum", ())
        if not FOREIGN_ENUMS.search(path) and not re.fullmatch(r"[a-z][A-Za-z0-9]*", value)
    ]
    assert wrong == []


def test_lists_maps_and_strings_of_the_spec_are_bounded() -> None:
    """Without bounds the API server estimates CEL rules as too expensive."""
    unbounded = []
    for path, node in NODES:
        if not path.startswith(".spec"):
            continue
        kind = node.get("type")
        if kind == "array" and "maxItems" not in node:
            unbounded.append(path)
        if kind == "object" and "additionalProperties" in node and "maxProperties" not in node:
            unbounded.append(path)
        if kind == "string" and "enum" not in node and "maxLength" not in node:
            unbounded.append(path)
        if kind in ("integer", "number") and not {"minimum", "maximum"} <= node.keys():
            unbounded.append(path)
    assert unbounded == []


def test_nothing_else_has_a_default() -> None:
    defaults = {path: node["default"] for path, node in NODES if "default" in node}
    assert defaults == {".spec.replicas": 1, ".status": {"observedGeneration": -1}}


def test_spec_names_no_namespace_host_path_or_remote_code() -> None:
    names = {path.rsplit(".", 1)[-1].lower() for path, _ in NODES if path.startswith(".spec")}
    assert (
        not {"namespace", "namespaces", "namespaceselector", "hostpath", "trustremotecode", "podtemplate"}
        & names
    )


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("", "size(self.metadata.name) <= 40"),
        (".spec.model.source", "has(self.builtIn)"),
        (".spec.model.loras[].source", "size() == 1"),
        (".spec.performance", "has(self.bias) && has(self.mode)"),
        (".spec.parallelism", "self.gpusPerReplica <= self.maxGPUsPerReplica"),
        (".spec.parallelism", "self.gpusPerReplica % ("),
        (".spec.pod.labels", "startsWith('diffusion-operator.io/')"),
        (".spec.pod.env[]", "has(self.value) != has(self.secretKeyRef)"),
        (".spec.pod.volumes[]", "has(self.emptyDir)"),
        (".spec.pod.resources.limits", "'ephemeral-storage'"),
        (".spec.hardware.tolerations[]", "has(self.key)"),
    ],
)
def test_rule_over_several_fields_is_in_the_schema(path: str, part: str) -> None:
    rules = dict(NODES)[path]["x-kubernetes-validations"]
    assert any(part in rule["rule"] for rule in rules)
    assert all(rule["message"] for rule in rules)


def test_scale_status_and_columns() -> None:
    assert VERSION["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    assert VERSION["subresources"]["status"] == {}
    shown = [column["name"] for column in VERSION["additionalPrinterColumns"] if "priority" not in column]
    assert shown == ["READY", "MODE", "GPUS", "LAYOUT", "PEAK", "REPLICAS", "REASON", "AGE"]


def test_column_paths_exist_in_the_schema() -> None:
    known = {path for path, _ in NODES}
    for column in VERSION["additionalPrinterColumns"]:
        path = re.sub(r"\[\?\(.*?\)\]", "[]", column["jsonPath"])
        assert path in known or path.startswith(".metadata"), path


def test_conditions_are_a_map_by_type_for_server_side_apply() -> None:
    conditions = dict(NODES)[".status.conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_a_field_without_structural_form_is_an_error() -> None:
    class Odd(ApiModel):
        both: int | str = Field(description="Two types and no mark of it.")

    with pytest.raises(ValueError, match=r"Odd\.both: a choice of 2 types"):
        structural_schema(Odd)
