"""The one interface through which the operator reads and writes the cluster.

Everything above sees only this protocol, so tests need no HTTP. Objects are raw dicts: typed models drop
fields they do not know, and a read-modify-write would lose them.
"""

from __future__ import annotations

from typing import Protocol

from diffusion_operator.kube.resources import JsonObject, Resource

JsonObjects = list[JsonObject]


class ListTaker(Protocol):
    """Takes a list in chunks, so that thousands of whole objects never lie in memory together."""

    def begin(self) -> None:
        """A list begins; what an earlier one has brought, which was not ended, does not count."""
        ...

    def take(self, items: JsonObjects) -> None:
        """The next chunk."""
        ...


class KubeClient(Protocol):
    """Every method raises the classes of `kube.errors`; every write may be repeated without harm."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JsonObject:
        """One object. Raises NotFound."""
        ...

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> list[JsonObject]:
        """All matching objects, fetched in chunks, as one consistent list. No namespace means all."""
        ...

    async def list_into(
        self,
        taker: ListTaker,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> str:
        """The same list, handed over chunk by chunk; returns the resourceVersion at which it holds."""
        ...

    async def apply(self, manifest: JsonObject, *, force: bool = True) -> JsonObject:
        """Server-side apply under one field manager.

        Forced, we win the fields that our manifest names. Not forced, it raises Conflict when somebody else
        owns one of them with another value.
        """
        ...

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """Create an object in its namespace, in one request. Raises AlreadyExists."""
        ...

    async def apply_status(self, manifest: JsonObject) -> JsonObject:
        """Server-side apply of `status`; `metadata.uid`, when given, must be the live object's."""
        ...

    async def delete(self, resource: Resource, name: str, namespace: str, *, uid: str) -> None:
        """Delete exactly the object with this uid, its dependents in the background. Gone already is fine."""
        ...

    async def create_event(self, event: JsonObject) -> None:
        """Create an events.k8s.io/v1 Event. Raises AlreadyExists."""
        ...

    async def repeat_event(self, namespace: str, name: str, series: JsonObject) -> None:
        """Mark an existing Event as seen again (`series.count`, `series.lastObservedTime`)."""
        ...
