"""When a live object still says what our manifest says."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.reconcile.compare import differences, manifest_hash


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        ({"a": 1}, {"a": 1, "defaulted": True}),
        (
            {"requests": {"memory": "1024Mi", "nvidia.com/gpu": 2}},
            {"requests": {"memory": "1Gi", "nvidia.com/gpu": "2"}},
        ),
        ({"limits": {"cpu": "500m"}}, {"limits": {"cpu": "0.5"}}),
        ({"env": [], "value": "", "hostNetwork": False}, {}),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "X"}, {"name": "A"}]}),
        (
            {"ports": [{"port": 80, "targetPort": "http"}]},
            {"ports": [{"port": 80, "targetPort": "http", "protocol": "TCP"}]},
        ),
        ({"emptyDir": {}}, {"emptyDir": {}}),
    ],
)
def test_defaults_normal_forms_and_foreign_fields_are_no_difference(wanted: Any, live: Any) -> None:
    assert differences(wanted, live) == []


@pytest.mark.parametrize(
    ("wanted", "live", "path"),
    [
        ({"spec": {"replicas": 2}}, {"spec": {"replicas": 3}}, "spec.replicas"),
        ({"selector": {"a": "b"}}, {"selector": {"a": "b", "by": "hand"}}, "selector"),
        (
            {"spec": {"ingress": [{"ports": [{"port": 8000}]}]}},
            {"spec": {"ingress": [{"ports": [{"port": 8000, "protocol": "TCP"}, {"port": 22}]}]}},
            "spec.ingress[0].ports",
        ),
        ({"command": ["x", "y"]}, {"command": ["x"]}, "command"),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]}, "env[0].value"),
        ({"containers": [{"name": "engine"}]}, {"containers": []}, "containers[0]"),
        ({"requests": {"memory": "1Gi"}}, {"requests": {"memory": "2Gi"}}, "requests.memory"),
        ({"readOnly": True}, {"readOnly": 1}, "readOnly"),
        ({"metadata": {"labels": {"a": "b"}}}, {"metadata": {}}, "metadata.labels"),
    ],
)  # fmt: skip
def test_a_hand_edit_of_what_we_set_is_found(wanted: Any, live: Any, path: str) -> None:
    assert differences(wanted, live) == [path]


def test_the_hash_ignores_order_and_sees_values() -> None:
    assert manifest_hash({"a": 1, "b": [1, 2]}) == manifest_hash({"b": [1, 2], "a": 1})
    assert manifest_hash({"a": 1}) != manifest_hash({"a": 2})
