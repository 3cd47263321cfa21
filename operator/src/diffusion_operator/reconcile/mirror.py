"""A mirror of what the operator reads: slim projections, fed by lists, watch events and our own writes.

Whoever feeds it may be late, twice or out of order; the resourceVersion decides, never the order of arrival.
Versions of one resource are compared as numbers, which Kubernetes promises since 1.35 and etcd always kept
(KEP-5504). A list removes what it no longer holds, so no gap in a watch leaves a ghost. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from diffusion_operator.api.names import LABEL_DEPLOYMENT
from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import NotFound, require_forward
from diffusion_operator.kube.resources import (
    GPU_NODES,
    LABELLED,
    OURS_SELECTOR,
    PODS,
    UNFINISHED_SELECTOR,
    WATCHED,
    JsonObject,
    Resource,
)
from diffusion_operator.reconcile.projections import View, project

Identity = tuple[str, str]  # namespace (empty for nodes), name
Owner = tuple[str, str]  # namespace and name of a DiffusionDeployment


@dataclass(frozen=True, slots=True)
class Entry:
    """One object. `raw` is what is kept of it (None: nothing), `view` what placement reads of it."""

    uid: str
    version: int
    owner: Owner | None
    raw: JsonObject | None
    view: View | None


# What changed: resource, entry before, entry after, and whether an answer to our own write said so.
ChangeListener = Callable[[Resource, Identity, Entry | None, Entry | None, bool], None]


@dataclass
class _Shelf:
    """All known objects of one resource."""

    entries: dict[Identity, Entry] = field(default_factory=dict)
    by_owner: dict[Owner, set[Identity]] = field(default_factory=dict)
    gone: dict[Identity, int] = field(default_factory=dict)
    floor: int = 0  # version of the newest list
    listed: bool = False


class Mirror:
    """See the module. All methods run on the event loop; between two awaits the mirror stands still."""

    def __init__(self) -> None:
        self._shelves = {resource: _Shelf() for resource in WATCHED}
        self._listeners: list[ChangeListener] = []

    def on_change(self, listener: ChangeListener) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    # --- reading ------------------------------------------------------------------------------------------

    @property
    def synced(self) -> bool:
        """Whether every collection has been listed at least once."""
        return not self.unlisted()

    def unlisted(self) -> list[str]:
        """Plural names of what has never been listed."""
        return [resource.plural for resource, shelf in self._shelves.items() if not shelf.listed]

    def get(self, resource: Resource, namespace: str, name: str) -> JsonObject | None:
        """The raw object, or None."""
        entry = self._shelves[resource].entries.get((namespace, name))
        return None if entry is None else entry.raw

    def view(self, resource: Resource, namespace: str, name: str) -> View | None:
        """What placement reads of one object, or None."""
        entry = self._shelves[resource].entries.get((namespace, name))
        return None if entry is None else entry.view

    def owned(self, resource: Resource, owner: Owner) -> list[JsonObject]:
        """Raw objects that carry the owner's label, in order of their names."""
        return [entry.raw for entry in self.owned_entries(resource, owner) if entry.raw is not None]

    def owned_entries(self, resource: Resource, owner: Owner) -> list[Entry]:
        """The same as entries."""
        shelf = self._shelves[resource]
        return [shelf.entries[identity] for identity in sorted(shelf.by_owner.get(owner, ()))]

    def entries(self, resource: Resource) -> Iterator[tuple[Identity, Entry]]:
        """All entries of one resource."""
        return iter(self._shelves[resource].entries.items())

    # --- feeding ------------------------------------------------------------------------------------------

    def put(self, resource: Resource, obj: JsonObject, *, own: bool = False) -> None:
        """Something says that the object looks like this. What is older than what is known is passed over."""
        shelf, identity = self._shelves[resource], _identity(obj)
        known, version = shelf.entries.get(identity), _version(obj)
        newest = known.version if known else max(shelf.floor, shelf.gone.get(identity, 0))
        if version <= newest:
            return
        self._set(resource, identity, known, _entry(resource, obj, version), own=own)

    def drop(self, resource: Resource, obj: JsonObject) -> None:
        """A watch says that the object is gone as of its resourceVersion."""
        shelf, identity, version = self._shelves[resource], _identity(obj), _version(obj)
        known = shelf.entries.get(identity)
        if known is not None and known.version > version:
            return  # made again since
        shelf.gone[identity] = max(version, shelf.gone.get(identity, 0))
        if known is not None:
            self._set(resource, identity, known, None)

    def forget(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """We deleted it. If it lingers, its next event brings it back."""
        shelf, identity = self._shelves[resource], (namespace, name)
        known = shelf.entries.get(identity)
        if known is not None and known.uid == uid:
            shelf.gone[identity] = known.version
            self._set(resource, identity, known, None, own=True)

    def listing(self, resource: Resource) -> Listing:
        """Takes a list of this resource, chunk by chunk."""
        return Listing(self, resource)

    def listed(self, resource: Resource, listed: Collection[Identity], version: str) -> None:
        """These were in a whole list as of `version`. What it lacks and what is not newer than it is gone."""
        shelf = self._shelves[resource]
        at = int(version) if version.isdigit() else 0
        for identity, known in list(shelf.entries.items()):
            if identity not in listed and known.version <= at:
                self._set(resource, identity, known, None)
        # From here on an unknown object that is not newer than the list must have been deleted before it.
        shelf.floor = max(at, shelf.floor)
        shelf.gone = {key: gone for key, gone in shelf.gone.items() if gone > shelf.floor}
        shelf.listed = True

    def is_behind(self, resource: Resource, version: str) -> bool:
        """Whether a list of this version is older than one that came before."""
        return version.isdigit() and int(version) < self._shelves[resource].floor

    async def refresh(self, client: KubeClient, resources: Iterable[Resource] = WATCHED) -> None:
        """List and take over. Raises ApiError, and StoreWentBack when versions run backwards."""
        for resource in resources:
            floor, listing = self._shelves[resource].floor, self.listing(resource)
            try:
                version = await client.list_into(listing, resource, **selectors(resource))
            except NotFound:
                if resource is not GPU_NODES:
                    raise
                listing.begin()  # no node agents: their kind is not installed
                version = ""
            require_forward(resource.plural, str(floor), version)
            listing.end(version)

    async def refresh_owner(self, client: KubeClient, resource: Resource, owner: Owner) -> None:
        """Read one owner's objects anew: after a write whose answer was lost. Raises ApiError."""
        selector = f"{OURS_SELECTOR},{LABEL_DEPLOYMENT}={owner[1]}"
        for obj in await client.list(resource, owner[0], label_selector=selector):
            self.put(resource, obj)

    def _set(
        self,
        resource: Resource,
        identity: Identity,
        before: Entry | None,
        after: Entry | None,
        *,
        own: bool = False,
    ) -> None:
        shelf = self._shelves[resource]
        if before is not None and before.owner is not None:
            siblings = shelf.by_owner[before.owner]
            siblings.discard(identity)
            if not siblings:
                del shelf.by_owner[before.owner]
        if after is None:
            del shelf.entries[identity]
        else:
            shelf.entries[identity] = after
            shelf.gone.pop(identity, None)
            if after.owner is not None:
                shelf.by_owner.setdefault(after.owner, set()).add(identity)
        for listener in self._listeners:
            listener(resource, identity, before, after, own)


class Listing:
    """A list on its way into the mirror: objects count as they come, and its end tells what is gone."""

    def __init__(self, mirror: Mirror, resource: Resource) -> None:
        self._mirror = mirror
        self._resource = resource
        self._listed: set[Identity] = set()

    def begin(self) -> None:
        """A list begins, perhaps once more."""
        self._listed = set()

    def take(self, items: Iterable[JsonObject]) -> None:
        """The next chunk."""
        for obj in items:
            self._listed.add(_identity(obj))
            self._mirror.put(self._resource, obj)

    def end(self, version: str) -> None:
        """It was whole, as of `version`."""
        self._mirror.listed(self._resource, self._listed, version)


def selectors(resource: Resource) -> dict[str, str]:
    """Which objects of a resource the mirror holds, as arguments of a list."""
    if resource is PODS:
        return {"field_selector": UNFINISHED_SELECTOR}
    return {"label_selector": OURS_SELECTOR} if resource in LABELLED else {}


def _entry(resource: Resource, obj: JsonObject, version: int) -> Entry:
    metadata = obj["metadata"]
    owner = (metadata.get("labels") or {}).get(LABEL_DEPLOYMENT)
    raw, view = project(resource, obj)
    return Entry(
        uid=str(metadata.get("uid", "")),
        version=version,
        owner=(metadata["namespace"], owner) if owner and "namespace" in metadata else None,
        raw=raw,
        view=view,
    )


def _identity(obj: JsonObject) -> Identity:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def _version(obj: JsonObject) -> int:
    text = str(obj["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0
