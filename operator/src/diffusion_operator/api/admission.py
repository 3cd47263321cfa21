"""Who may write which DiffusionDeployment: nobody gains by one what they could not do with pods.

The operator creates pods in the author's place and the kubelet hands them Secrets. So the API server itself
asks, with the rights of whoever sends the request: may they create pods there, and read every Secret that the
spec names? The policy is generated from the schema, so a new field that names a Secret is covered at once.

It judges the main resource only: status and scale have rights of their own, which RBAC gives out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_operator.api.crd import crd
from diffusion_operator.api.names import API_GROUP, API_VERSION, PLURAL

# An authorizer check costs 350,000 of the 1,000,000 units that one expression may use, and the whole policy
# has 10,000,000 (k8s.io/apiserver, pkg/apis/cel/config.go and pkg/cel/library/cost.go). Hence one expression
# for each place of a list, and at most 26 Secrets for an author who may not read all of the namespace.
_SECRET_OBJECTS = ("secretRef", "secretKeyRef", "apiKeySecretRef")
_SECRET_LISTS = ("imagePullSecrets",)
_MAY = "authorizer.group('').resource('{resource}').namespace(request.namespace)"
_MAY_CREATE_PODS = _MAY.format(resource="pods") + ".check('create').allowed()"
_MAY_READ_ALL = _MAY.format(resource="secrets") + ".check('get').allowed()"
_MAY_READ = _MAY.format(resource="secrets") + ".name({name}).check('get').allowed()"


@dataclass(frozen=True)
class SecretField:
    """One field of the spec that names a Secret, or one such field of each entry of a list.

    `steps` lead from `spec` to the name or to the list; `inner` from an entry to the name. `places` is the
    longest that the list may be, None for a single name.
    """

    steps: tuple[str, ...]
    inner: tuple[str, ...] = ()
    places: int | None = None

    @property
    def variable(self) -> str:
        """Name of the CEL variable with the name, or with the list of names."""
        first, *rest = (*self.steps, *self.inner)
        return first + "".join(step[:1].upper() + step[1:] for step in rest)

    @property
    def expression(self) -> str:
        """The variable's CEL: '' stands for a name that is not there."""
        outer = "".join(f".?{step}" for step in self.steps)
        if self.places is None:
            return f"object.spec{outer}.orValue('')"
        inner = "".join(f".?{step}" for step in self.inner)
        return f"object.spec{outer}.orValue([]).map(entry, entry{inner}.orValue(''))"

    def paths(self) -> Iterator[str]:
        """Every place as messages spell it."""
        head, tail = ".".join(("spec", *self.steps)), "".join(f".{step}" for step in self.inner)
        if self.places is None:
            yield head
        else:
            yield from (f"{head}[{index}]{tail}" for index in range(self.places))


def secret_fields() -> tuple[SecretField, ...]:
    """Every field of the spec that names a Secret, in the order of the schema."""
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return tuple(_fields(schema["properties"]["spec"], ()))


def author_policy() -> dict[str, Any]:
    """The `spec` of the ValidatingAdmissionPolicy."""
    fields = secret_fields()
    resource = {
        "apiGroups": [API_GROUP],
        "apiVersions": [API_VERSION],
        "operations": ["CREATE", "UPDATE"],
        "resources": [PLURAL],
        "scope": "Namespaced",
    }
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [resource]},
        "matchConditions": [
            {
                # Labels, owner references and finalizers stay in the hands of whoever RBAC lets write them.
                "name": "spec-is-new",
                "expression": "request.operation == 'CREATE' || object.spec != oldObject.spec",
            }
        ],
        "variables": [
            {"name": "readsEverySecret", "expression": _MAY_READ_ALL},
            *({"name": field.variable, "expression": field.expression} for field in fields),
        ],
        "validations": [_pods_rule(), *(rule for field in fields for rule in _secret_rules(field))],
    }


def _pods_rule() -> dict[str, str]:
    message = (
        "'spec: a DiffusionDeployment runs pods, and ' + request.userInfo.username + ' may not create pods '"
        " + 'in namespace ' + request.namespace + '; ask for that right'"
    )
    return {"expression": _MAY_CREATE_PODS, "messageExpression": message, "reason": "Forbidden"}


def _secret_rules(field: SecretField) -> Iterator[dict[str, str]]:
    names = f"variables.{field.variable}"
    for index, path in enumerate(field.paths()):
        # A Secret that an earlier entry names has been asked for already.
        name, known = (
            (names, "")
            if field.places is None
            else (
                f"{names}[?{index}].orValue('')",
                f"{names}.indexOf({names}[{index}]) < {index} || ",
            )
        )
        message = (
            f"'{path}: ' + request.userInfo.username + ' may not get Secret ' + {name} + ' in namespace ' "
            "+ request.namespace + '; name a Secret that you may read, or ask for the right to get this one'"
        )
        asked = f"{name} == '' || {known}variables.readsEverySecret || {_MAY_READ.format(name=name)}"
        yield {"expression": asked, "messageExpression": message, "reason": "Forbidden"}


def _fields(schema: Mapping[str, Any], steps: tuple[str, ...]) -> Iterator[SecretField]:
    for field, child in schema.get("properties", {}).items():
        here = (*steps, field)
        if field in _SECRET_OBJECTS:
            yield SecretField((*here, "name"))
        elif field in _SECRET_LISTS:
            yield SecretField(here, ("name",), child["maxItems"])
        elif child.get("type") == "array":
            for found in _fields(child["items"], ()):
                yield SecretField(here, found.steps, child["maxItems"])
        else:
            yield from _fields(child, here)
