"""Waits, always with a deadline: for a state of the cluster by watching it, for all else by asking."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from localcluster.kindcluster import Cluster

Object = dict[str, Any]
State = dict[str, Object]
EVERYWHERE = ""
"""In place of a namespace: all of them."""
SPELL_S = 10
"""A watch is begun anew after this long: what went between a list and its watch sends no event."""


def says(obj: Object, kind: str) -> bool:
    """Whether the condition of this type is True; what is so new that it has no conditions says nothing."""
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(entry["type"] == kind and entry["status"] == "True" for entry in conditions)


def until(holds: Callable[[], bool], what: str, limit_s: float) -> float:
    """Seconds until it held; asked a few times a second. AssertionError when it never did."""
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < limit_s, f"within {limit_s:.0f} s never: {what}"
        time.sleep(0.2)
    return time.monotonic() - began_s


def await_state(
    cluster: Cluster,
    namespace: str,
    resource: str,
    holds: Callable[[State], bool],
    what: str,
    *,
    selector: str = "",
    deadline_seconds: float = 120,
) -> State:
    """Watch objects of one kind until ``holds`` (over name -> object) is true; AssertionError with the last
    state if never.
    """
    where = ["--all-namespaces"] if namespace == EVERYWHERE else ["-n", namespace]
    words = ["get", resource, *where, "-o", "json"] + (["-l", selector] if selector else [])
    deadline = time.monotonic() + deadline_seconds
    while (left := deadline - time.monotonic()) > 0:
        state = _listed(cluster, words)
        if holds(state) or _comes_to_hold(cluster, words, state, holds, min(left, SPELL_S)):
            return state
    raise AssertionError(f"within {deadline_seconds:.0f} s never: {what}. Last seen: {_short(state)}")


def _comes_to_hold(
    cluster: Cluster, words: list[str], state: State, holds: Callable[[State], bool], spell_s: float
) -> bool:
    """Follow a watch for a while; ``state`` is what it told when this returns."""
    # A watch begins with what exists, one by one: half of that is no state that ever was.
    unseen = set(state)
    state.clear()
    command = [str(cluster.kubectl_program), "--kubeconfig", str(cluster.folder.kubeconfig), *words]
    command += ["--watch", "--output-watch-events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watch:
        limit = threading.Timer(spell_s, watch.kill)
        limit.start()
        try:
            for line in watch.stdout or ():  # one event a line
                unseen.discard(_follow(state, json.loads(line)))
                if holds(state) and not (unseen and unseen & _listed(cluster, words).keys()):
                    return True
        finally:
            limit.cancel()
            watch.kill()
    return False


def _listed(cluster: Cluster, words: list[str]) -> State:
    listed: list[Object] = json.loads(cluster.kubectl(*words))["items"]
    return {entry["metadata"]["name"]: entry for entry in listed}


def _follow(state: State, event: Object) -> str:
    """The name that the event is about."""
    entry = event["object"]
    name = str(entry["metadata"]["name"])
    if event["type"] == "DELETED":
        state.pop(name, None)
    else:
        state[name] = entry
    return name


def _short(state: State) -> str:
    return json.dumps(
        {name: {"spec": entry.get("spec"), "status": entry.get("status")} for name, entry in state.items()}
    )[:6000]
