"""Keeps the ServiceMonitor that spec.monitoring asks for, in clusters that know such a thing.

It is apart from the other children because its kind may be missing from the cluster: that is no reason to
stop serving, so it becomes a warning in the status. Nothing here watches ServiceMonitors; one that was edited
by hand is put right by the next reconcile of its deployment.
"""

from __future__ import annotations

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.names import FIELD_MANAGER, LABEL_DEPLOYMENT, LABEL_MANAGED_BY
from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import Forbidden, NotFound
from diffusion_operator.kube.resources import SERVICE_MONITORS, JsonObject
from diffusion_operator.reconcile.children import controller_uid
from diffusion_operator.reconcile.compare import differences
from diffusion_operator.reconcile.keys import DeploymentKey
from diffusion_operator.render.servicemonitor import render_service_monitor

MISSING_KIND = (
    "spec.monitoring.serviceMonitor: this cluster has no ServiceMonitor resource (monitoring.coreos.com/v1); "
    "install the Prometheus operator, or leave the field out and scrape port 9000 of the pods"
)
TAKEN = (
    "spec.monitoring.serviceMonitor: a ServiceMonitor named {name} exists and does not belong to this "
    "DiffusionDeployment; rename one of the two or delete the ServiceMonitor"
)
WITHOUT_EFFECT = "spec.monitoring.labels has no effect without spec.monitoring.serviceMonitor: true"
OURS = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"


class MonitorKeeper:
    """Remembers which deployments may have a ServiceMonitor, so that those without cost no request."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._existing: set[DeploymentKey] | None = None

    async def keep(self, dd: DiffusionDeployment) -> str | None:
        """Bring the ServiceMonitor to what the spec says; returns a warning where that cannot be done."""
        try:
            return await self._keep(dd)
        except Forbidden as error:
            return f"spec.monitoring.serviceMonitor: the operator lacks a permission: {error}"

    async def _keep(self, dd: DiffusionDeployment) -> str | None:
        key, manifest = DeploymentKey(dd.namespace, dd.name), render_service_monitor(dd)
        if manifest is None:
            if key in await self._known():
                await self._remove(key, dd.uid)
            return WITHOUT_EFFECT if dd.spec.monitoring and dd.spec.monitoring.labels else None
        return await self._apply(key, manifest, dd.uid)

    async def _known(self) -> set[DeploymentKey]:
        """Listed once a process; afterwards our own writes keep it true."""
        if self._existing is None:
            try:
                found = await self._client.list(SERVICE_MONITORS, label_selector=OURS)
            except NotFound:
                found = []  # the kind is missing, and so is every object of it
            self._existing = {_owner_key(monitor) for monitor in found}
        return self._existing

    async def _apply(self, key: DeploymentKey, manifest: JsonObject, uid: str) -> str | None:
        live = await self._get(key)
        if live is not None and controller_uid(live) != uid:
            return TAKEN.format(name=key.name)
        if live is None or differences(manifest, live):
            try:
                await self._client.apply(manifest)
            except NotFound:
                return MISSING_KIND
        (await self._known()).add(key)
        return None

    async def _remove(self, key: DeploymentKey, uid: str) -> None:
        live = await self._get(key)
        if live is not None and controller_uid(live) == uid:
            metadata = live["metadata"]
            await self._client.delete(SERVICE_MONITORS, key.name, key.namespace, uid=metadata["uid"])
        (await self._known()).discard(key)

    async def _get(self, key: DeploymentKey) -> JsonObject | None:
        try:
            return await self._client.get(SERVICE_MONITORS, key.name, key.namespace)
        except NotFound:
            return None


def _owner_key(monitor: JsonObject) -> DeploymentKey:
    metadata = monitor["metadata"]
    return DeploymentKey(metadata["namespace"], metadata["labels"].get(LABEL_DEPLOYMENT, metadata["name"]))
