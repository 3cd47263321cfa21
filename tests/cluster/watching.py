"""Waits for a state of the cluster by watching it: no sleeps, no polling, always with a deadline."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from localcluster.kindcluster import Cluster

Object = dict[str, Any]
State = dict[str, Object]
EVERYWHERE = ""
"""In place of a namespace: all of them."""


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
    state = _listed(cluster, words)
    if holds(state):
        return state
    # A watch begins with what exists, one by one: half of that is no state that ever was.
    unseen, state = set(state), {}
    command = [str(cluster.kubectl_program), "--kubeconfig", str(cluster.folder.kubeconfig), *words]
    command += ["--watch", "--output-watch-events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watch:
        limit = threading.Timer(deadline_seconds, watch.kill)
        limit.start()
        try:
            for line in watch.stdout or ():  # one event a line
                unseen.discard(_follow(state, json.loads(line)))
                if holds(state) and not (unseen and unseen & _listed(cluster, words).keys()):
                    return state
        finally:
            limit.cancel()
            watch.kill()
    raise AssertionError(f"within {deadline_seconds:.0f} s never: {what}. Last seen: {_short(state)}")


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
