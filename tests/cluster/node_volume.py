"""A folder of the real node as a claim of one test's namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.room import Room


@dataclass(frozen=True)
class Folder:
    """`path` on the node, `name` of the claim, and how pods may mount it."""

    path: str
    name: str
    access_mode: str


@contextmanager
def claimed(room: Room, folder: Folder) -> Iterator[str]:
    """Inside, the claim is there, bound to the folder; then the deployments that use it, and the folder, go.

    The folder is made by whoever fills it, through the node's container: no pod that may run in a restricted
    namespace could as root.
    """
    node, volume = room.cluster.folder.node, f"{room.namespace}-{folder.name}"[:60]
    size, modes = {"storage": "1Gi"}, [folder.access_mode]
    on_the_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    room.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "capacity": size,
                "accessModes": modes,
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": folder.path, "type": "Directory"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_the_node]}]}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": folder.name, "namespace": room.namespace},
            "spec": {
                "accessModes": modes,
                "storageClassName": "",
                "volumeName": volume,
                "resources": {"requests": size},
            },
        },
    )
    try:
        yield folder.name
    finally:
        room.kubectl("delete", "dd", "--all", "--timeout=60s")
        room.cluster.kubectl("delete", "pv", volume, "--wait=false")
        room.cluster.provider.call("exec", node, "rm", "-rf", folder.path)
