"""When the refusal of a bad resource counts as naming what is bad: in the words of a real API server."""

from __future__ import annotations

import pytest

from builders.bad_resources import BadResource
from builders.structural import sites, spec_schema
from cluster.verdicts import parent_of, refusal_fault

INVALID = 'DiffusionDeployment.diffusion-operator.io "bad-1" is invalid: '
STRICT = 'DiffusionDeployment in version "v1alpha1" cannot be handled: strict decoding error: '
SKIPPED = (
    '<nil>: Invalid value: "null": some validation rules were not checked because the object was invalid'
)
OBJECT = 'Invalid value: "object": '
KEY = "example.org/key"
ONE_SOURCE = "set exactly one of builtIn, huggingFace, pvc, s3, image"
ONE_VOLUME = "set exactly one of pvc, emptyDir, image"
REPO, SIZE = "spec.model.source.huggingFace.repo", "spec.pod.volumes[0].emptyDir.sizeLimit"


def fault(field: str, said: str, status: int = 422) -> str:
    return refusal_fault(BadResource(1, "any", field, "bad-1", {}), status, said)


@pytest.mark.parametrize(
    ("field", "path", "words"),
    [
        # the field itself
        (REPO, REPO, "Too long: may not be more than 200 bytes"),
        ("spec.model.source.pvc.claimName", "spec.model.source.pvc.claimName", "Required value"),
        ("spec", "spec", 'Invalid value: "string": spec in body must be of type object: "string"'),
        ("metadata.name", "metadata.name", 'Invalid value: "a_b": a lowercase RFC 1123 subdomain'),
        (f"spec.pod.labels.{KEY}", f"spec.pod.labels.{KEY}", 'Invalid value: "a b": in body should match'),
        # one of several, and not the first
        ("spec.replicas", "[spec.task", f'Unsupported value: "x", spec.replicas: Required value, {SKIPPED}]'),
        # something in it
        ("spec.pod.env", "spec.pod.env[1]", 'Duplicate value: map[string]interface {}{"name":"A"}'),
        ("spec.pod.env[0]", "spec.pod.env[0].name", "Required value"),
        ("spec.hardware", "spec.hardware.resourceName", 'Invalid value: "x": in body should match'),
        # the object whose rule it breaks
        ("spec.performance.bias", "spec.performance", f"{OBJECT}set mode or bias, not both"),
        ("spec.pod.volumes[0].name", "spec.pod.volumes[0]", f"{OBJECT}the volume names plan are reserved"),
        (f"spec.pod.labels.{KEY}", "spec.pod.labels", f"{OBJECT}labels that start with"),
        # an object further up, by exactly its rule
        (SIZE, "spec.pod.volumes[0]", f"{OBJECT}{ONE_VOLUME}"),
    ],
)
def test_these_name_it(field: str, path: str, words: str) -> None:
    assert fault(field, f"{INVALID}{path}: {words}") == ""


def test_an_unknown_field_is_named_in_quotes() -> None:
    assert fault("spec.pod.unknownField", f'{STRICT}unknown field "spec.pod.unknownField"') == ""
    assert fault("spec.pod.unknownField", f'{STRICT}unknown field "spec.unknownField"') != ""


@pytest.mark.parametrize(
    ("field", "path", "words"),
    [
        ("spec.pod.env[0].name", "spec", "Invalid value: something is wrong"),
        ("spec.pod.env[0].name", "spec.pod", f"{OBJECT}no"),
        ("spec.pod.env[0].name", "spec.pod.env", "Too many: 17: must have at most 16 items"),
        (f"spec.pod.labels.{KEY}", "spec.pod", f"{OBJECT}no"),
        ("spec.model", "spec.modelling", "Invalid value"),
        ("spec.pod.labels", "spec.pod.labelSelector", 'Invalid value: "x"'),
        ("spec.replicas", "metadata.name", "Invalid value"),
        ("spec.replicas", "it", "the specification is not specific enough"),
        # a rule of an object around it, but not of the one that is named, or no rule of it
        ("spec.model.source.s3.endpoint", "spec.model", f"{OBJECT}{ONE_SOURCE}"),
        (SIZE, "spec.pod.volumes[0]", f"{OBJECT}some other rule"),
        (SIZE, "spec.pod.volumes[1]", f"{OBJECT}{ONE_VOLUME}"),
    ],
)
def test_these_do_not(field: str, path: str, words: str) -> None:
    assert fault(field, f"{INVALID}{path}: {words}") != ""


def test_where_several_are_bad_any_place_in_the_spec_will_do_but_not_the_spec() -> None:
    assert fault("", f"{INVALID}spec.task: Unsupported value") == ""
    assert fault("", f"{INVALID}spec: Invalid value") != ""
    assert fault("", "the request is bad") != ""


def test_an_error_of_the_server_is_no_refusal() -> None:
    assert "answered 500" in fault("spec.replicas", "spec.replicas: Invalid value", 500)


def test_the_parent_of_every_place_is_the_place_around_it() -> None:
    known = list(sites(spec_schema()))
    by_steps = {site.steps: site.path for site in known}
    for site in known:
        if len(site.steps) > 1:
            assert parent_of(site.path) == by_steps[site.steps[:-1]]
