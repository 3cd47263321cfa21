"""Custom resource definitions put into an API server, and a wait until it serves them.

`kubectl wait` is no such wait: it fails at once on a definition so new that it has no conditions yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cluster.watching import Object, says, until
from localcluster.settings import REPOSITORY

OURS = REPOSITORY / "crds"
SERVED_WITHIN_S = 60.0


def install(kubectl: Callable[..., str], *files: Path) -> None:
    """Apply files or folders of definitions; returns when every definition there is is served."""
    kubectl("apply", "--server-side", *(word for file in files for word in ("-f", str(file))))
    await_served(kubectl)


def await_served(kubectl: Callable[..., str]) -> None:
    """Returns when every definition there is is served."""
    until(
        lambda: all(says(one, "Established") for one in _listed(kubectl)),
        "every definition is served",
        SERVED_WITHIN_S,
    )


def _listed(kubectl: Callable[..., str]) -> list[Object]:
    listed: list[Object] = json.loads(kubectl("get", "crd", "-o", "json"))["items"]
    return listed
