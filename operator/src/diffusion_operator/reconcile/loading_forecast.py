"""How long a pod that starts should take to read its weights, for people who wait. Pure.

It is shown and never used to end anything: how fast a volume is, nobody tells the operator.
"""

from __future__ import annotations

from collections.abc import Iterable

from diffusion_operator.placement.decision import GroupDecision
from diffusion_operator.reconcile.observe import PodView
from diffusion_runtime.planning.explain import format_bytes

VOLUME_BYTES_PER_S = 1e9
"""An assumption, not a measurement: local NVMe disks read faster, most network volumes slower. It stands for
the volume alone: an engine reads what is in the page cache many times as fast.
"""


def loading_forecast(groups: Iterable[GroupDecision], pods: Iterable[PodView]) -> str:
    """Such as "a pod reads 57.7GiB of weights, about 62 s at 1 GB/s"; empty while no pod reads files.

    Ranks share the page cache, so the volume gives each file once however many there are. It says nothing
    that changes while the pod loads, so it is written once.
    """
    starting = {(pod.group, pod.plan_hash) for pod in pods if pod.ip and not pod.ready and not pod.problem}
    for group in groups:
        if group.files_bytes and (group.name, group.plan.hash) in starting:
            seconds = max(1, round(group.files_bytes / VOLUME_BYTES_PER_S))
            rate = f"{VOLUME_BYTES_PER_S / 1e9:g} GB/s"
            return f"a pod reads {format_bytes(group.files_bytes)} of weights, about {seconds} s at {rate}"
    return ""
