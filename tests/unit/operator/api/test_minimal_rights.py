"""The operator asks for exactly the rights that its client uses, and for none on Secrets."""

from __future__ import annotations

from collections.abc import Iterable

from diffusion_operator.api.rbac import AGENT_RULES, CLUSTER_RULES, OWN_RULES, Rule
from diffusion_operator.kube.resources import REQUIRED_ACCESS, REQUIRED_OWN_ACCESS, Resource

Access = tuple[Resource, str | None, tuple[str, ...]]


def granted(rules: Iterable[Rule] = CLUSTER_RULES) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule.groups
        for resource in rule.resources
        for verb in rule.verbs
    }


def needed(access: Iterable[Access]) -> set[tuple[str, str, str]]:
    return {
        (resource.group, resource.plural + (f"/{sub}" if sub else ""), verb)
        for resource, sub, verbs in access
        for verb in verbs
    }


def test_rights_are_those_that_the_client_checks_at_start() -> None:
    assert granted() == needed(REQUIRED_ACCESS)


def test_leases_are_for_the_own_namespace_alone() -> None:
    assert granted(OWN_RULES) == needed(REQUIRED_OWN_ACCESS)
    assert not any(resource == "leases" for _, resource, _ in granted())


def test_no_secrets_no_wildcards_no_escalation() -> None:
    for group, resource, verb in granted() | granted(AGENT_RULES):
        assert resource not in ("secrets", "clusterroles", "roles", "rolebindings", "pods/exec")
        assert "*" not in (group, resource, verb)
        assert verb not in ("escalate", "bind", "impersonate", "update", "deletecollection")


def test_every_rule_says_why() -> None:
    assert all(len(rule.reason) > 15 for rule in (*CLUSTER_RULES, *AGENT_RULES))


def test_an_agent_may_only_report_and_look_up_its_node() -> None:
    kind = ("diffusion-operator.io", "gpunodes")
    assert granted(AGENT_RULES) == {
        ("", "nodes", "get"),
        *((*kind, verb) for verb in ("get", "create", "patch")),
    }
