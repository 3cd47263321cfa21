"""Writes a status only when it says something new."""

from __future__ import annotations

from collections import OrderedDict

from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import NotFound
from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.reconcile.compare import manifest_hash
from diffusion_operator.reconcile.status import same_status, status_manifest

REMEMBERED = 10_000


class StatusWriter:
    """Remembers what the API server made of the last status, so a pruned field is not written for ever."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._answers: OrderedDict[str, tuple[str, JsonObject]] = OrderedDict()

    async def write(self, dd: JsonObject, status: JsonObject) -> bool:
        """Apply `status` unless the live one says the same; returns whether it was written."""
        live, uid, digest = dd.get("status") or {}, dd["metadata"]["uid"], manifest_hash(status)
        if same_status(status, live):
            return False
        known, answered = self._answers.get(uid, ("", {}))
        if known == digest and answered == live:
            return False
        try:
            answer = await self._client.apply_status(status_manifest(dd, status))
        except NotFound:
            return False  # deleted meanwhile
        self._answers.pop(uid, None)
        self._answers[uid] = (digest, answer.get("status") or {})
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return True
