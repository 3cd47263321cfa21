"""A client that puts the answers to our own writes into the mirror, so that no decision is behind them."""

from __future__ import annotations

from diffusion_operator.kube.client import KubeClient, ListTaker
from diffusion_operator.kube.resources import JsonObject, Resource, resource_of
from diffusion_operator.reconcile.mirror import Mirror

JsonObjects = list[JsonObject]


class MirroringClient:
    """Implements `KubeClient` over another one."""

    def __init__(self, client: KubeClient, mirror: Mirror) -> None:
        self._client = client
        self._mirror = mirror
        self.create_event = client.create_event
        self.repeat_event = client.repeat_event

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JsonObject:
        return await self._client.get(resource, name, namespace)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> JsonObjects:
        return await self._client.list(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )

    async def list_into(
        self,
        taker: ListTaker,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> str:
        return await self._client.list_into(
            taker, resource, namespace, label_selector=label_selector, field_selector=field_selector
        )

    async def apply(self, manifest: JsonObject, *, force: bool = True) -> JsonObject:
        answer = await self._client.apply(manifest, force=force)
        self._mirror.put(resource_of(manifest), answer, own=True)
        return answer

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        answer = await self._client.create(resource, obj)
        self._mirror.put(resource, answer, own=True)
        return answer

    async def apply_status(self, manifest: JsonObject) -> JsonObject:
        answer = await self._client.apply_status(manifest)
        self._mirror.put(resource_of(manifest), answer, own=True)
        return answer

    async def delete(self, resource: Resource, name: str, namespace: str, *, uid: str) -> None:
        await self._client.delete(resource, name, namespace, uid=uid)
        self._mirror.forget(resource, namespace, name, uid)
