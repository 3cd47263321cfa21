"""The operator asks for exactly the rights that its client uses, and for none on Secrets."""

from __future__ import annotations

from diffusion_operator.api.rbac import AGENT_RULES, CLUSTER_RULES, Rule
from diffusion_operator.kube.resources import REQUIRED_ACCESS


def granted(rules: tuple[Rule, ...] = CLUSTER_RULES) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule.groups
        for resource in rule.resources
        for verb in rule.verbs
    }


def test_rights_are_those_that_the_client_checks_at_start() -> None:
    needed = {
        (resource.group, resource.plural + (f"/{sub}" if sub else ""), verb)
        for resource, sub, verbs in REQUIRED_ACCESS
        for verb in verbs
    }
    assert granted() == needed


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
