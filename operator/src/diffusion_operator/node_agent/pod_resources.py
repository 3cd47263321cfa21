"""Asks the kubelet which pod holds which GPU, over its PodResources socket.

The service is `v1.PodResourcesLister` of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto. Only `List` is
called and only the fields that are needed are described; protobuf skips the others. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
LIST_METHOD = "/v1.PodResourcesLister/List"
TIMEOUT_S = 5.0
# The kubelet answers for all pods of the node; gRPC's default limit of 4 MiB is the kubelet's own as well.
LONGEST_ANSWER_BYTES = 16 * 1024 * 1024

_TYPES = descriptor_pb2.FieldDescriptorProto


class KubeletSilent(Exception):
    """The kubelet gave no usable answer; who holds the GPUs is not known now."""


@dataclass(frozen=True, order=True)
class PodName:
    """A pod by namespace and name."""

    namespace: str
    name: str


Holders = Mapping[str, frozenset[PodName]]
"""Pods by the id of the GPU that they hold: `GPU-…` or `MIG-…`, without the suffix of a shared replica."""


class PodResources:
    """One channel to the socket; gRPC reconnects by itself when the kubelet restarts. Close it at the end."""

    def __init__(self, socket: Path = SOCKET, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        options = [
            ("grpc.max_receive_message_length", LONGEST_ANSWER_BYTES),
            ("grpc.max_reconnect_backoff_ms", 5000),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=options)
        self._list = self._channel.unary_unary(
            LIST_METHOD,
            request_serializer=ListRequest.SerializeToString,
            response_deserializer=ListResponse.FromString,
        )

    def holders(self) -> Holders:
        """Every device that a pod holds. Raises KubeletSilent."""
        try:
            answer = self._list(ListRequest(), timeout=self._timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise KubeletSilent(
                f"the kubelet does not say which pod holds which GPU: {error.code().name}: {error.details()}"
            ) from error
        found: dict[str, set[PodName]] = {}
        for pod in answer.pod_resources:
            name = PodName(pod.namespace, pod.name)
            for container in pod.containers:
                for devices in container.devices:
                    for device in devices.device_ids:
                        # The device plugin names replicas of a shared GPU `<uuid>::<number>`.
                        found.setdefault(device.partition("::")[0], set()).add(name)
        return {device: frozenset(names) for device, names in found.items()}

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _messages() -> dict[str, Any]:
    """Message classes from descriptors, so that no generated file has to be kept."""
    file = descriptor_pb2.FileDescriptorProto(name="podresources/v1/api.proto", package="v1", syntax="proto3")
    file.message_type.add(name="ListPodResourcesRequest")
    _add(file, "ContainerDevices", ("resource_name", 1, None, False), ("device_ids", 2, None, True))
    _add(file, "ContainerResources", ("name", 1, None, False), ("devices", 2, "ContainerDevices", True))
    _add(
        file,
        "PodResources",
        ("name", 1, None, False),
        ("namespace", 2, None, False),
        ("containers", 3, "ContainerResources", True),
    )
    _add(file, "ListPodResourcesResponse", ("pod_resources", 1, "PodResources", True))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in names}


def _add(
    file: descriptor_pb2.FileDescriptorProto, name: str, *fields: tuple[str, int, str | None, bool]
) -> None:
    """Fields are (name, number, message type or None for a string, repeated)."""
    message = file.message_type.add(name=name)
    for field, number, kind, repeated in fields:
        described = message.field.add(name=field, number=number)
        described.label = _TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL
        described.type = _TYPES.TYPE_MESSAGE if kind else _TYPES.TYPE_STRING
        if kind:
            described.type_name = f".v1.{kind}"


_MESSAGES = _messages()
ListRequest = _MESSAGES["ListPodResourcesRequest"]
ListResponse = _MESSAGES["ListPodResourcesResponse"]
