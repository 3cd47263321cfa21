"""The kinds the operator reads or writes, with their fixed REST paths.

Paths are written down instead of discovered: discovery needs a cache file and goes stale when a CRD changes.
Nothing here talks to a server. Paths follow https://kubernetes.io/docs/reference/using-api/api-concepts/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from diffusion_operator.api.gpu_node import GPU_NODE_KIND, GPU_NODE_PLURAL
from diffusion_operator.api.names import (
    API_GROUP,
    API_VERSION,
    FIELD_MANAGER,
    KIND,
    LABEL_MANAGED_BY,
    PLURAL,
)

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """One REST resource. `group` is empty for the core API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, or `version` for the core API."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """URL path of the collection or of one object. No namespace means all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part is not None]
        return "/".join(parts)


DIFFUSION_DEPLOYMENTS = Resource(API_GROUP, API_VERSION, PLURAL, KIND)
GPU_NODES = Resource(API_GROUP, API_VERSION, GPU_NODE_PLURAL, GPU_NODE_KIND, namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
SERVICES = Resource("", "v1", "services", "Service")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
JOBS = Resource("batch", "v1", "jobs", "Job")
PERSISTENT_VOLUME_CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PERSISTENT_VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
# Exists only where the Prometheus operator is installed; never watched, because a watch needs it to exist.
SERVICE_MONITORS = Resource("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False
)

CHILD_RESOURCES = (
    SERVICE_ACCOUNTS,
    CONFIG_MAPS,
    NETWORK_POLICIES,
    SERVICES,
    DISRUPTION_BUDGETS,
    DEPLOYMENTS,
    JOBS,
)
_BY_TYPE = {
    (r.api_version, r.kind): r
    for r in (DIFFUSION_DEPLOYMENTS, GPU_NODES, *CHILD_RESOURCES, SERVICE_MONITORS)
}

# What the operator's role must allow, as (resource, subresource, verbs); checked once at start.
REQUIRED_ACCESS: tuple[tuple[Resource, str | None, tuple[str, ...]], ...] = (
    (DIFFUSION_DEPLOYMENTS, None, ("get", "list", "watch")),
    (DIFFUSION_DEPLOYMENTS, "status", ("patch",)),
    (NODES, None, ("list", "watch")),
    (GPU_NODES, None, ("list", "watch")),
    (PODS, None, ("list", "watch")),
    (RESOURCE_QUOTAS, None, ("list", "watch")),
    (PERSISTENT_VOLUME_CLAIMS, None, ("list", "watch")),
    (PERSISTENT_VOLUMES, None, ("list", "watch")),
    (REPLICA_SETS, None, ("list", "watch")),
    *((resource, None, ("get", "list", "watch", "create", "patch")) for resource in CHILD_RESOURCES),
    # The other children go with their owner.
    *((resource, None, ("delete",)) for resource in (CONFIG_MAPS, NETWORK_POLICIES, DEPLOYMENTS, JOBS)),
    (SERVICE_MONITORS, None, ("get", "list", "create", "patch", "delete")),
    (EVENTS, None, ("create", "patch")),
)

# The same for the namespace that the operator runs in.
REQUIRED_OWN_ACCESS: tuple[tuple[Resource, str | None, tuple[str, ...]], ...] = (
    (LEASES, None, ("get", "create", "update")),
)

# What is watched, by both replicas, and of which collections only the objects with our label.
WATCHED = (
    DIFFUSION_DEPLOYMENTS,
    NODES,
    GPU_NODES,
    PODS,
    RESOURCE_QUOTAS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    REPLICA_SETS,
    *CHILD_RESOURCES,
)
LABELLED = (REPLICA_SETS, *CHILD_RESOURCES)
OURS_SELECTOR = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"
# Finished pods hold no GPU; the server leaves them out of lists and reports them as deleted.
UNFINISHED_SELECTOR = "status.phase!=Succeeded,status.phase!=Failed"


def resource_of(manifest: JsonObject) -> Resource:
    """The resource of a manifest we write. Raises ValueError for a kind the operator has no business with."""
    try:
        return _BY_TYPE[(manifest["apiVersion"], manifest["kind"])]
    except KeyError:
        raise ValueError(
            f"bug: this client never writes {manifest.get('apiVersion')} {manifest.get('kind')}"
        ) from None
