"""A PodResources server on a unix socket that answers with bytes written by hand after api.proto.

It shares no code with the agent's client: were the client's field numbers wrong, the two would disagree.
Fields that the client does not know (CPUs, topology, memory) are sent as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc

Held = Mapping[str, Mapping[str, list[str]]]
"""Device ids by resource name, by "namespace/name" of the pod."""


class FakeKubelet:
    """`held` is what pods hold now; a test changes it between two questions."""

    def __init__(self, held: Held | None = None) -> None:
        self.held: Held = held or {}
        self.questions = 0
        self.refuse: grpc.StatusCode | None = None

    def list_pod_resources(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """The answer to List; the request has no fields."""
        assert request == b""
        self.questions += 1
        if self.refuse is not None:
            context.abort(self.refuse, "as the test asked")
        return b"".join(_field(1, _pod(name, devices)) for name, devices in self.held.items())


@contextmanager
def serving(kubelet: FakeKubelet, socket: Path) -> Iterator[None]:
    """Serve on the socket, as `v1.PodResourcesLister`."""
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    method = grpc.unary_unary_rpc_method_handler(kubelet.list_pod_resources)
    handler = grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": method})
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield
    finally:
        server.stop(grace=None).wait()
        socket.unlink(missing_ok=True)


def _pod(name: str, devices: Mapping[str, list[str]]) -> bytes:
    namespace, pod = name.split("/")
    return _text(1, pod) + _text(2, namespace) + _field(3, _container(devices)) + _number(4, 7)


def _container(devices: Mapping[str, list[str]]) -> bytes:
    cpus = _field(3, bytes([1, 2, 3]))
    entries = (
        _text(1, resource)
        + b"".join(_text(2, device) for device in ids)
        + _field(3, _field(1, _number(1, 0)))
        for resource, ids in devices.items()
    )
    return _text(1, "main") + b"".join(_field(2, entry) for entry in entries) + cpus


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field (wire type 2)."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
