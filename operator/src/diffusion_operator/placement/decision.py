"""The words of a decision: what runs where, how it is rolled out, and what is refused and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from diffusion_operator.inventory.selection import Mount, Toleration
from diffusion_operator.placement.history import NO_HISTORY, FailedPlan, History
from diffusion_runtime.planning.documents import Plan


@dataclass(frozen=True)
class Rollout:
    """Deployment strategy. The two counts are pods and apply to RollingUpdate only."""

    kind: Literal["RollingUpdate", "Recreate"]
    max_surge: int = 0
    max_unavailable: int = 0


@dataclass(frozen=True)
class GroupDecision:
    """One hardware group: `replicas` pods that follow `plan` on nodes with `node_selector`.

    `intent` is the hash of what was asked; it is stored on the Deployment and tells a changed wish from an
    unchanged one. `without_label` is a label that a node must not have (hardware without a product label).
    """

    name: str
    product: str
    plan: Plan
    replicas: int
    rollout: Rollout
    intent: str
    resource_name: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    without_label: str | None = None
    tolerations: tuple[Toleration, ...] = ()
    wish: str = ""
    """Hash of the spec alone that the plan was made for; it differs from the present one after going back
    from a changed spec."""
    engine_image: str | None = None
    """Image of the plan that was gone back to; None: the installation's."""
    rolled_back: FailedPlan | None = None
    failed: FailedPlan | None = None
    """This very plan is known to fail, and there is nothing to go back to and nothing leaner."""
    future: int = 0
    """How many of the replicas wait for nodes that a pool is to bring."""
    downgraded_from: str | None = None
    """Hash of the plan that ran out of memory, when this one is a fallback of it."""
    mounts: tuple[Mount, ...] = ()
    """Claims that its pods read the model from."""
    files_bytes: int = 0
    """Bytes of the model's weight files."""
    unlabelled: tuple[str, ...] = ()
    """Nodes of its pods whose product label is gone, each with what is wrong: no new pod comes there."""


@dataclass(frozen=True)
class Refusal:
    """Why (some) replicas do not run. `stalled`: no change of free capacity alone can help."""

    reason: str
    message: str
    stalled: bool
    field: str | None = None


@dataclass(frozen=True)
class Decision:
    """Both can be set: some replicas run, others wait. No group and a refusal: leave what runs as it is.

    `history` is what was remembered, less what no longer holds, plus what the evidence taught.
    """

    groups: tuple[GroupDecision, ...] = ()
    refusal: Refusal | None = None
    history: History = NO_HISTORY


@dataclass(frozen=True)
class CurrentGroup:
    """A group that exists: the plan its Deployment names, the intent it was made for, its replica count.

    `settled` is false while pods of another template remain, that is, while a roll-out runs. `stuck`: a pod
    of the present template has found no node for a while, or was refused before there was one.
    """

    name: str
    plan: Plan
    intent: str
    replicas: int
    rollout: Rollout | None = None
    settled: bool = True
    stuck: bool = False
    engine_image: str | None = None
