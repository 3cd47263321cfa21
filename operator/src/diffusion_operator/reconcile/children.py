"""Brings the children of one DiffusionDeployment to what was rendered, with as few writes as possible.

It never touches an object that another owner controls, and never sets a finalizer: what it makes carries an
owner reference, so deletion is the garbage collector's work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from diffusion_operator.api.errors import InvalidSpec
from diffusion_operator.api.names import API_GROUP, KIND
from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import Conflict, Invalid, NotFound
from diffusion_operator.kube.resources import (
    CHILD_RESOURCES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    NETWORK_POLICIES,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    JsonObject,
    resource_of,
)
from diffusion_operator.reconcile.compare import differences, manifest_hash
from diffusion_operator.reconcile.mirror import Mirror

logger = logging.getLogger(__name__)

ANNOTATION_APPLIED_HASH = f"{API_GROUP}/applied-hash"
Identity = tuple[str, str]  # kind, name


class ChildLeaving(Exception):
    """A child's name is still held by an object of a deleted predecessor; try again when it is collected."""


@dataclass(frozen=True)
class Children:
    """Live children that `owner_uid` controls, and the ReplicaSets of their Deployments."""

    owner_uid: str
    objects: dict[Identity, JsonObject]
    replica_sets: tuple[JsonObject, ...]

    @property
    def deployments(self) -> list[JsonObject]:
        """Live Deployments in order of their names."""
        return [live for (kind, _), live in sorted(self.objects.items()) if kind == DEPLOYMENTS.kind]


def children_of(mirror: Mirror, dd: JsonObject) -> Children:
    """Every child that the mirror knows; objects that somebody else controls are left out."""
    metadata = dd["metadata"]
    owner = (metadata["namespace"], metadata["name"])
    objects = {
        (kind.kind, live["metadata"]["name"]): live
        for kind in CHILD_RESOURCES
        for live in mirror.owned(kind, owner)
        if controller_uid(live) == metadata["uid"]
    }
    return Children(metadata["uid"], objects, tuple(mirror.owned(REPLICA_SETS, owner)))


class ChildWriter:
    """Applies and removes children. Remembers what the API server rewrites, so it is written only once."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._rewritten: dict[Identity, tuple[str, frozenset[str]]] = {}

    async def apply(self, children: Children, manifests: Iterable[JsonObject]) -> list[JsonObject]:
        """Apply what differs, in the given order; returns what was written.

        Raises InvalidSpec when a name is taken by a foreign object, ChildLeaving when it will become free.
        """
        written = []
        for manifest in manifests:
            stamped = _stamped(manifest)
            live = children.objects.get(_identity(stamped))
            if live is None:
                answer = await self._make(stamped, children.owner_uid)
            elif self._differs(stamped, live):
                answer = await self._client.apply(stamped)
            else:
                continue
            self._learn(stamped, answer)
            children.objects[_identity(stamped)] = answer
            written.append(stamped)
        return written

    def changes_serving(self, children: Children, manifests: Iterable[JsonObject]) -> bool:
        """Whether a live Deployment would be written to or would no longer be wanted."""
        wanted = {_identity(manifest): manifest for manifest in manifests}
        return any(
            identity not in wanted or self._differs(_stamped(wanted[identity]), live)
            for identity, live in children.objects.items()
            if identity[0] == DEPLOYMENTS.kind
        )

    async def remove(self, children: Children, doomed: Iterable[Identity]) -> None:
        """Delete these children, each by its uid."""
        for identity in sorted(doomed):
            live = children.objects.pop(identity)
            metadata = live["metadata"]
            if "deletionTimestamp" not in metadata:
                resource = resource_of(live)
                await self._client.delete(
                    resource, metadata["name"], metadata["namespace"], uid=metadata["uid"]
                )

    def _differs(self, stamped: JsonObject, live: JsonObject) -> bool:
        if live.get("immutable"):
            # An immutable ConfigMap is named by its content; writing other predictions into it would fail.
            return False
        found = frozenset(differences(stamped, live))
        known_hash, known = self._rewritten.get(_identity(stamped), ("", frozenset()))
        return bool(found if known_hash != _applied_hash(stamped) else found - known)

    def _learn(self, stamped: JsonObject, answer: JsonObject) -> None:
        rewritten = frozenset(differences(stamped, answer))
        if rewritten:
            logger.warning("the server rewrites %s: %s", _identity(stamped), ", ".join(sorted(rewritten)))
            self._rewritten[_identity(stamped)] = (_applied_hash(stamped), rewritten)
        else:
            self._rewritten.pop(_identity(stamped), None)

    async def _make(self, stamped: JsonObject, owner_uid: str) -> JsonObject:
        """Apply an object that is not known to exist, without taking what belongs to somebody else.

        Not forced, the API server refuses where another manager has set a field of ours otherwise, or where
        another owner controls the object. A ServiceAccount has no such field, so it is created, not applied.
        """
        try:
            if stamped["kind"] == SERVICE_ACCOUNTS.kind:
                return await self._client.create(SERVICE_ACCOUNTS, stamped)
            return await self._client.apply(stamped, force=False)
        except (Conflict, Invalid):  # AlreadyExists is a Conflict
            await self._refuse_foreign(stamped, owner_uid)
            return await self._client.apply(stamped)

    async def _refuse_foreign(self, stamped: JsonObject, owner_uid: str) -> None:
        metadata = stamped["metadata"]
        try:
            live = await self._client.get(resource_of(stamped), metadata["name"], metadata["namespace"])
        except NotFound:
            return
        owner = _controller(live)
        if owner is not None and owner.get("uid") == owner_uid:
            return  # ours, but its label was taken off by hand; apply puts it back
        what = f"{stamped['kind']} {metadata['name']}"
        if owner is not None and owner.get("kind") == KIND:
            raise ChildLeaving(f"{what} of a deleted {KIND} of this name is still being removed")
        raise InvalidSpec(
            "metadata.name",
            f"{what} exists and does not belong to this {KIND}; "
            f"rename one of the two or delete the {stamped['kind']}",
        )


def unwanted_deployments(children: Children, manifests: Iterable[JsonObject]) -> list[Identity]:
    """Live Deployments that were not rendered: groups that are no longer used."""
    wanted = {_identity(manifest) for manifest in manifests}
    return [
        (kind, name)
        for kind, name in children.objects
        if kind == DEPLOYMENTS.kind and (kind, name) not in wanted
    ]


def unwanted_policies(children: Children, manifests: Iterable[JsonObject]) -> list[Identity]:
    """Live NetworkPolicies that were not rendered: the operator no longer makes any."""
    wanted = {_identity(manifest) for manifest in manifests}
    return [
        identity
        for identity in children.objects
        if identity[0] == NETWORK_POLICIES.kind and identity not in wanted
    ]


def unused_plans(
    children: Children, manifests: Iterable[JsonObject], needed: Iterable[str] = ()
) -> list[Identity]:
    """Plan ConfigMaps that were not rendered, that no Deployment or ReplicaSet mounts, and not `needed`."""
    kept = {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == CONFIG_MAPS.kind}
    kept |= set(needed)
    for owner in (*children.deployments, *children.replica_sets):
        kept |= _mounted_config_maps(owner)
    return [(kind, name) for kind, name in children.objects if kind == CONFIG_MAPS.kind and name not in kept]


def controller_uid(live: JsonObject) -> str | None:
    """Uid of the controlling owner, None without one."""
    owner = _controller(live)
    return None if owner is None else owner.get("uid")


def _controller(live: JsonObject) -> JsonObject | None:
    for owner in live["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return None


def _mounted_config_maps(workload: JsonObject) -> set[str]:
    pod = workload.get("spec", {}).get("template", {}).get("spec", {})
    return {
        volume["configMap"].get("name", "") for volume in pod.get("volumes") or () if volume.get("configMap")
    }


def _identity(manifest: JsonObject) -> Identity:
    return manifest["kind"], manifest["metadata"]["name"]


def _stamped(manifest: JsonObject) -> JsonObject:
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), ANNOTATION_APPLIED_HASH: manifest_hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _applied_hash(stamped: JsonObject) -> str:
    return str(stamped["metadata"]["annotations"][ANNOTATION_APPLIED_HASH])
