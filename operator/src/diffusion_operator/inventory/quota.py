"""The ResourceQuotas of a namespace: how many GPUs and pods one deployment may have in all.

A quota refuses pods at creation, silently for who only sees a Deployment; so a decision asks first. Only what
counts GPUs (`requests.<resource>`) and pods (`pods`, `count/pods`) is read: other limits concern fields that
the user writes. What other deployments of ours will still create counts as used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_operator.api.quantities import BadQuantity, parse_count
from diffusion_operator.inventory.objects import ManagedDeployment, Pod
from diffusion_operator.inventory.requests import BadObject, part

Raw = Mapping[str, Any]
POD_KEYS = ("pods", "count/pods")
_REQUESTS = "requests."


@dataclass(frozen=True, slots=True)
class ScopeRule:
    """One requirement on the pods that a quota counts, as in its scopeSelector."""

    scope: str
    operator: str = "Exists"
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quota:
    """A ResourceQuota. `hard` and `used` count GPUs and pods by the quota's own keys."""

    namespace: str
    name: str
    hard: Mapping[str, int]
    used: Mapping[str, int] = field(default_factory=dict)
    scopes: tuple[ScopeRule, ...] = ()


@dataclass(frozen=True, slots=True)
class PodTraits:
    """What of a pod decides whether a scoped quota counts it."""

    priority_class: str | None = None
    best_effort: bool = True


@dataclass(frozen=True, slots=True)
class QuotaLimit:
    """`allowed` of `hard` may be this owner's in all; it holds `own`, others of the namespace `others`."""

    quota: str
    key: str
    hard: int
    others: int
    own: int = 0

    @property
    def allowed(self) -> int:
        """Never less than what exists: a quota that was lowered stops no pod."""
        return max(self.own, self.hard - self.others)

    def words(self) -> str:
        """`quota team: requests.nvidia.com/gpu 4, of which others use 3`."""
        return f"quota {self.quota}: {self.key} {self.hard}, of which others use {self.others}"


@dataclass(frozen=True, slots=True)
class QuotaRoom:
    """All limits on one owner: on its GPUs and on its pods, the tightest first."""

    gpus: tuple[QuotaLimit, ...] = ()
    pods: tuple[QuotaLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """A quota with what each deployment of ours holds of it (`held`) and will still create (`coming`)."""

    quota: Quota
    held: Mapping[str, Mapping[str, int]]
    coming: Mapping[str, Mapping[str, int]]

    def limit(self, owner: str, key: str) -> QuotaLimit:
        """As `owner` sees one key."""
        own = self.held.get(owner, {}).get(key, 0)
        coming = sum(counts.get(key, 0) for name, counts in self.coming.items() if name != owner)
        others = max(0, self.quota.used.get(key, 0) - own) + coming
        return QuotaLimit(self.quota.name, key, self.quota.hard[key], others, own)


def parse_quota(raw: Raw) -> Quota:
    """Projection of a ResourceQuota; keys that count neither GPUs nor pods are left out."""
    metadata, spec, status = part(raw, "metadata"), part(raw, "spec"), part(raw, "status")
    namespace, name = str(metadata.get("namespace", "")), str(metadata.get("name", ""))
    what = f"resourcequota {namespace}/{name}"
    plain = tuple(ScopeRule(str(scope)) for scope in spec.get("scopes") or ())
    selected = tuple(
        ScopeRule(str(e.get("scopeName")), str(e.get("operator")), tuple(map(str, e.get("values") or ())))
        for e in part(spec, "scopeSelector").get("matchExpressions") or ()
    )
    return Quota(
        namespace,
        name,
        _counts(what, "spec.hard", part(spec, "hard")),
        _counts(what, "status.used", part(status, "used")),
        plain + selected,
    )


def quota_uses(
    quotas: Iterable[Quota], pods: Iterable[Pod], deployments: Iterable[ManagedDeployment]
) -> tuple[QuotaUse, ...]:
    """Each quota with our share of it. Terminating pods still count: the API server counts them too."""
    found = tuple(quotas)
    spaces = {quota.namespace for quota in found}
    if not spaces:
        return ()
    own = [pod for pod in pods if pod.owner and pod.namespace in spaces and not pod.terminal]
    held: dict[str, Counter[str]] = {}
    living: Counter[tuple[str, str | None]] = Counter()
    for pod in own:
        held.setdefault(pod.owner or "", Counter()).update(_as_keys(pod.extended, 1))
        if not pod.terminating:
            living[pod.owner or "", pod.group] += 1
    coming: dict[str, Counter[str]] = {}
    for deployment in deployments:
        missing = deployment.replicas - living[deployment.owner, deployment.group]
        if missing > 0 and deployment.owner.split("/")[0] in spaces:
            need = _as_keys({deployment.resource_name: deployment.gpus_per_pod * missing}, missing)
            coming.setdefault(deployment.owner, Counter()).update(need)
    return tuple(
        QuotaUse(quota, _within(held, quota.namespace), _within(coming, quota.namespace)) for quota in found
    )


def quota_room(uses: Iterable[QuotaUse], owner: str, resource_name: str, traits: PodTraits) -> QuotaRoom:
    """The limits that a pod of `owner` ("namespace/name") with these traits meets."""
    namespace, gpu_key = owner.split("/")[0], _REQUESTS + resource_name
    met = [use for use in uses if use.quota.namespace == namespace and counts_pod(use.quota, traits)]
    limits = {
        keys: sorted(
            (use.limit(owner, key) for use in met for key in keys if key in use.quota.hard),
            key=lambda limit: (limit.allowed, limit.quota, limit.key),
        )
        for keys in ((gpu_key,), POD_KEYS)
    }
    return QuotaRoom(tuple(limits[(gpu_key,)]), tuple(limits[POD_KEYS]))


def counts_pod(quota: Quota, traits: PodTraits) -> bool:
    """Whether the quota counts an engine pod. Engine pods have no activeDeadlineSeconds."""
    return all(_in_scope(rule, traits) for rule in quota.scopes)


def _in_scope(rule: ScopeRule, traits: PodTraits) -> bool:
    match rule.scope:
        case "NotTerminating":
            return True
        case "BestEffort":
            return traits.best_effort
        case "NotBestEffort":
            return not traits.best_effort
        case "PriorityClass":
            return _priority_in_scope(rule, traits.priority_class)
    return False


def _priority_in_scope(rule: ScopeRule, priority_class: str | None) -> bool:
    match rule.operator:
        case "In":
            return priority_class in rule.values
        case "NotIn":
            return priority_class not in rule.values
        case "Exists":
            return priority_class is not None
    return priority_class is None


def _as_keys(resources: Mapping[str, int], pods: int) -> dict[str, int]:
    counted = {_REQUESTS + name: amount for name, amount in resources.items()}
    return counted | dict.fromkeys(POD_KEYS, pods)


def _within(counts: Mapping[str, Counter[str]], namespace: str) -> dict[str, Mapping[str, int]]:
    return {owner: found for owner, found in counts.items() if owner.split("/")[0] == namespace}


def _counts(what: str, where: str, amounts: Raw) -> dict[str, int]:
    counted = {}
    for key, value in amounts.items():
        if key in POD_KEYS or (key.startswith(_REQUESTS) and "/" in key):
            try:
                counted[key] = parse_count(value)
            except BadQuantity as error:
                raise BadObject(f"{what}: {where}.{key}: {error}") from error
    return counted
