"""How long pods may wait for nodes that a pool is to bring. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from diffusion_operator.placement.decision import Refusal
from diffusion_operator.reconcile.observe import PodView

START_TIMEOUT_S = 15 * 60


def judged(
    refusal: Refusal | None, pods: Iterable[PodView], now: datetime
) -> tuple[Refusal | None, float | None]:
    """The refusal, stalled once a pod waits for a node for 15 minutes; and the seconds until then.

    The time is the scheduler's or the pod's own: it survives the operator.
    """
    if refusal is None or refusal.reason != "WaitingForNodes":
        return refusal, None
    since = min((pod.homeless_since for pod in pods if pod.homeless_since), default=None)
    if since is None:
        return refusal, None
    left_s = START_TIMEOUT_S - (now - since).total_seconds()
    if left_s > 0:
        return refusal, left_s
    minutes = START_TIMEOUT_S // 60
    message = (
        f"{refusal.message.rstrip('.')}; none came in {minutes} minutes: look at the cluster autoscaler."
    )
    return replace(refusal, message=message, stalled=True), None
