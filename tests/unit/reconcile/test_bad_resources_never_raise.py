"""What the schema admits ends in conditions with reasons, never in an exception; the rest names a field."""

from __future__ import annotations

import pytest

from builders.bad_resources import KINDS, BadResource, bad_resources
from builders.structural import problems, spec_schema
from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.errors import InvalidSpec
from diffusion_operator.reconcile.conditions import LONGEST_MESSAGE
from unit.reconcile.worlds import demo, world

BASE = {**demo()["spec"]}
BASE.pop("parallelism")
RESOURCES = bad_resources(BASE)
SCHEMA = spec_schema()
ADMITTED = [bad for bad in RESOURCES if not any(problems(bad.spec, SCHEMA, "spec"))]
EVERY = 6  # of those that are played against a cluster here; the full suite plays all against a real one


def test_there_are_enough_of_every_kind() -> None:
    assert len(RESOURCES) == 2000
    assert {bad.kind for bad in RESOURCES} == set(KINDS)
    assert len(ADMITTED) > 500
    assert [bad.manifest() for bad in RESOURCES] == [bad.manifest() for bad in bad_resources(BASE)]


def test_the_parser_takes_it_or_names_the_field() -> None:
    taken, named = 0, set()
    for bad in RESOURCES:
        manifest = bad.manifest()
        manifest["metadata"] |= {"namespace": "team", "uid": "uid", "generation": 1}
        try:
            DiffusionDeployment.parse(manifest)
            taken += 1
        except InvalidSpec as error:
            named.add(error.field.split(".")[0].split("[")[0])
    assert 300 < taken < len(ADMITTED)
    assert named == {"spec", "metadata"}


@pytest.mark.parametrize("part", range(4))
async def test_reconciling_ends_in_conditions_with_reasons(part: int) -> None:
    for bad in ADMITTED[part :: 4 * EVERY]:
        await _play(bad)


async def _play(bad: BadResource) -> None:
    made = world(8, 8)
    manifest = bad.manifest()
    manifest["metadata"]["namespace"] = "team"
    made.cluster.submit(manifest)
    for _ in range(3):
        await made.reconcile(bad.name)
        made.cluster.run_controllers()
    conditions = made.status(bad.name)["conditions"]
    assert len(conditions) == 6
    for condition in conditions:
        assert condition["reason"], (bad.kind, bad.field)
        assert 0 < len(condition["message"]) <= LONGEST_MESSAGE
