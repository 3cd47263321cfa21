"""A proxy that refuses, cuts and loses between the operator and a real API server; then all is right."""

from __future__ import annotations

import time
from pathlib import Path

from cluster.controlplane import control_plane
from cluster.faultproxy import fault_proxy
from cluster.hostoperator import (
    apply,
    children,
    furnish,
    kept_running,
    looked_at,
    operators_kubeconfig,
    wish,
)
from cluster.watching import until

SHARE = 0.3
FAULTY_S = 20.0
CONVERGED_S = 60.0


def test_a_struck_connection_ends_at_the_last_wish(tmp_path: Path) -> None:
    with (
        control_plane(tmp_path, "garbage-collector-controller") as plane,
        fault_proxy(f"https://127.0.0.1:{plane.port}") as proxy,
    ):
        furnish(plane)
        with kept_running(operators_kubeconfig(plane, proxy.url), tmp_path) as operator:
            apply(plane, wish("before"))
            until(lambda: looked_at(plane) == {"before"}, "a deployment before the faults", 30)
            proxy.share = SHARE
            began_s = time.monotonic()
            apply(plane, *(wish(f"dd-{number}") for number in range(4)))
            time.sleep(FAULTY_S / 2)  # the faults' own time
            apply(plane, wish("dd-0", replicas=2))
            plane.kubectl("delete", "dd", "dd-1", "-n", "default")
            time.sleep(max(0.0, FAULTY_S - (time.monotonic() - began_s)))
            proxy.share = 0.0
            wanted = {"before": 1, "dd-0": 2, "dd-2": 1, "dd-3": 1}
            took_s = until(
                lambda: children(plane) == wanted and looked_at(plane) == wanted.keys(),
                "the last wishes, after the faults",
                CONVERGED_S,
            )
            print(f"{proxy.struck}; {took_s:.1f} s after the last; started {operator.starts} times")
            assert sum(proxy.struck.values()) >= 10
            assert not operator.said("bug in the operator")
