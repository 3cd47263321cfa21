"""The admission policy asks for every Secret that a spec can name, wherever the schema lets it name one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from diffusion_operator.api.admission import author_policy, secret_fields
from diffusion_operator.api.model import SecretRef
from diffusion_operator.api.pod import PullSecret
from diffusion_operator.api.serving import SecretKeyRef
from diffusion_operator.api.spec import DiffusionDeploymentSpec

NAMING = (SecretRef, SecretKeyRef, PullSecret)
MOST_COST, COST_OF_A_CHECK = 1_000_000, 350_000


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def fields_naming_secrets(model: type[BaseModel], path: str) -> Iterator[str]:
    """Found by type, where the policy finds them by the schema's names."""
    for name, field in model.model_fields.items():
        for inner in models_in(field.annotation):
            here = f"{path}.{field.alias or name}"
            yield from [here] if issubclass(inner, NAMING) else fields_naming_secrets(inner, here)


def test_no_field_is_forgotten() -> None:
    by_type = sorted(fields_naming_secrets(DiffusionDeploymentSpec, "spec"))
    by_schema = sorted(
        {next(field.paths()).replace("[0]", "").removesuffix(".name") for field in secret_fields()}
    )
    assert by_schema == by_type


def test_every_place_has_its_rule_and_message() -> None:
    rules = author_policy()["validations"]
    places = [path for field in secret_fields() for path in field.paths()]
    assert len(rules) == 1 + len(places)
    for path, rule in zip(places, rules[1:], strict=True):
        assert rule["messageExpression"].startswith(f"'{path}: '")
        assert rule["reason"] == "Forbidden"


def test_no_expression_can_exceed_what_one_may_cost() -> None:
    for rule in author_policy()["validations"]:
        checks = rule["expression"].count(".check(") + rule["expression"].count("variables.readsEverySecret")
        assert checks * COST_OF_A_CHECK < MOST_COST


def test_only_the_spec_is_judged_and_failures_close() -> None:
    policy = author_policy()
    assert policy["failurePolicy"] == "Fail"
    (rule,) = policy["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["diffusiondeployments"]  # neither status nor scale
    assert "object.spec != oldObject.spec" in policy["matchConditions"][0]["expression"]
