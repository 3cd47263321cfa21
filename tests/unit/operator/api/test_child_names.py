"""Names of children fit their kinds, whatever the deployment and the GPU are called."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_operator.api.names import deployment_name, group_slug, plan_config_map_name

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def test_known_products_have_short_groups() -> None:
    assert [group_slug(name) for name in ("H200", "L40S", "A100-80")] == ["h200", "l40s", "a100-80"]


@settings(deadline=None)
@given(st.text(max_size=80))
def test_group_is_a_short_dns_label(product: str) -> None:
    group = group_slug(product)
    assert DNS_LABEL.fullmatch(group)
    assert len(group) <= 20


@settings(deadline=None)
@given(st.text(max_size=80))
def test_children_of_the_longest_name(product: str) -> None:
    name, group = "a" * 40, group_slug(product)
    assert len(deployment_name(name, group)) <= 63
    assert len(plan_config_map_name(name, group, "f" * 12)) <= 253


def test_long_products_stay_apart() -> None:
    assert group_slug("Some-Very-Long-Product-Name-A") != group_slug("Some-Very-Long-Product-Name-B")
