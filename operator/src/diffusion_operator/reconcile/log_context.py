"""Which object the running reconcile is about, for the log. It changes nothing but log lines."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.reconcile.keys import DeploymentKey

_NOTHING: Mapping[str, str] = {}
_fields: ContextVar[Mapping[str, str]] = ContextVar("reconcile", default=_NOTHING)


@contextmanager
def reconciling(key: DeploymentKey) -> Iterator[None]:
    """Every log line of this task within the block carries the object's name and one id for the pass."""
    fields = {"namespace": key.namespace, "name": key.name, "reconcileID": uuid.uuid4().hex[:12]}
    token = _fields.set(fields)
    try:
        yield
    finally:
        _fields.reset(token)


def note_object(raw: JsonObject) -> None:
    """The object was read: its uid and resourceVersion join the log lines."""
    metadata = raw["metadata"]
    known = {key: metadata[key] for key in ("uid", "resourceVersion") if key in metadata}
    _fields.set({**_fields.get(), **known})


def object_fields() -> Mapping[str, str]:
    """What is known of the running reconcile; empty outside of one."""
    return _fields.get()
