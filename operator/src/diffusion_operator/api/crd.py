"""The CustomResourceDefinition, generated from the models. There is no other source of it."""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.base import rules
from diffusion_operator.api.deployment import NAME_PATTERN
from diffusion_operator.api.names import API_GROUP, API_VERSION, KIND, MAX_NAME_LENGTH, PLURAL, SHORT_NAME
from diffusion_operator.api.schema import Schema, structural_schema
from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.api.status import UNSEEN, DiffusionDeploymentStatus

DESCRIPTION = (
    "A diffusion model served in the cluster. Say which model and what size of picture or clip; the operator "
    "works out how many GPUs a pod gets, how the model is split over them and what stays on the GPU, "
    "says why, and runs it."
)
NAME = f"At most {MAX_NAME_LENGTH} of a-z, 0-9 and -, starting with a letter; a Service gets the same name."
_READY = '.status.conditions[?(@.type=="Ready")]'
# name, type, JSON path, priority (1: only with -o wide)
COLUMNS = (
    ("Ready", "string", f"{_READY}.status", 0),
    ("Mode", "string", ".status.plan.mode", 0),
    ("GPUs", "integer", ".status.plan.gpusPerReplica", 0),
    ("Layout", "string", ".status.plan.layoutSummary", 0),
    ("Peak", "string", ".status.plan.peakPerGPU", 0),
    ("Replicas", "integer", ".status.readyReplicas", 0),
    ("Reason", "string", f"{_READY}.reason", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Model", "string", ".status.plan.model", 1),
    ("Product", "string", ".status.plan.product", 1),
    ("Source", "string", ".status.plan.source", 1),
    ("Message", "string", f"{_READY}.message", 1),
)


def crd() -> dict[str, Any]:
    """The whole CRD as a plain dict."""
    return definition(
        KIND, PLURAL, "Namespaced", _version(), {"shortNames": [SHORT_NAME], "categories": ["all"]}
    )


def definition(
    kind: str, plural: str, scope: str, version: dict[str, Any], more_names: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A CRD of this group with one version, which is served and stored."""
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{API_GROUP}"},
        "spec": {
            "group": API_GROUP,
            "scope": scope,
            "names": names | (more_names or {}),
            "versions": [{"name": API_VERSION, "served": True, "storage": True, **version}],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "additionalPrinterColumns": [
            {"name": name.upper(), "type": kind, "jsonPath": path}
            | ({"priority": priority} if priority else {})
            for name, kind, path, priority in COLUMNS
        ],
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "schema": {"openAPIV3Schema": _schema()},
    }


def _schema() -> Schema:
    spec = structural_schema(DiffusionDeploymentSpec)
    # The scale subresource cannot work without a value, so this is the one default.
    spec["properties"]["replicas"]["default"] = 1
    spec["description"] = "What to serve. Only model is required: what you leave out is planned."
    status = structural_schema(DiffusionDeploymentStatus)
    status["description"] = "What was decided and why, and what runs. Written by the operator alone."
    # Without it kstatus calls an object Current that no operator has seen, and `helm --wait` ends at once.
    status["default"] = {"observedGeneration": UNSEEN}
    return {
        "type": "object",
        "description": DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always `{API_GROUP}/{API_VERSION}`."},
            "kind": {"type": "string", "description": f"Always `{KIND}`."},
            # Named here, so that a rule may say which field it is about.
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "description": NAME}}},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": _name_rules(),
    }


def _name_rules() -> list[dict[str, str]]:
    pairs = (
        (
            f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
            f"the name may have at most {MAX_NAME_LENGTH} characters",
        ),
        (
            f"self.metadata.name.matches('{NAME_PATTERN}')",
            "the name must start with a letter and hold only a-z, 0-9 and -",
        ),
    )
    made: list[dict[str, str]] = rules(*pairs)["x-kubernetes-validations"]
    # Without it the API server writes <nil> where the path belongs.
    return [rule | {"fieldPath": ".metadata.name"} for rule in made]
