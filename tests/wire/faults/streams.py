"""F5: the stream of a watch ends, a thousand times, in every way that a server or a proxy can end it.

Real kopf against a small API server on the real clock: what is proven is that kopf, our session and the
mirror together lose nothing. The pauses that kopf and the session make between two streams are shortened.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from diffusion_operator import watch as watching
from diffusion_operator.kube import listening
from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS, JsonObject
from diffusion_operator.kube.rest import ClientSettings
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.streams import Streams
from wire.fakeapi import FakeApi, fake_api, kubeconfig
from wire.faults.outcome import Outcome

DDS = DIFFUSION_DEPLOYMENTS.path()
NOTICED_S = 30.0
SHORT_S = 0.01
ENDS: dict[str, JsonObject] = {
    "410 Gone": {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}},
    "an ERROR event": {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "leader lost"}},
    "clean EOF": {"type": "CUT"},
    "half a JSON line": {"type": "HALF"},
    "half a JSON line, reset": {"type": "HALF", "reset": True},
    "410 before the stream": {"type": "STATUS", "code": 410},
    "503 before the stream": {"type": "STATUS", "code": 503},
}


@dataclass
class Watched:
    """What the server holds, and what the mirror has been told of it."""

    api: FakeApi
    mirror: Mirror = field(default_factory=Mirror)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, name: str, generation: int) -> None:
        """Create or change one."""
        metadata = {"name": name, "namespace": "team", "generation": generation}
        self.api.put(DDS, {"metadata": metadata, "spec": {"replicas": generation}})

    def delete(self, name: str) -> None:
        path = f"{DDS.rsplit('/', 1)[0]}/namespaces/team/{DIFFUSION_DEPLOYMENTS.plural}/{name}"
        gone = self.api.objects.pop(path)
        self.api.version += 1
        gone["metadata"]["resourceVersion"] = str(self.api.version)
        self.api.tell(DDS, "DELETED", gone)

    def names(self) -> list[str]:
        return [path.rsplit("/", 1)[1] for path in self.api.objects]

    async def until_equal(self) -> None:
        """Return once the mirror shows what the server holds."""
        while True:
            self.changed.clear()
            held = {
                obj["metadata"]["name"]: obj["metadata"]["generation"] for obj in self.api.objects.values()
            }
            entries = self.mirror.entries(DIFFUSION_DEPLOYMENTS)
            known = {name: (entry.raw or {})["metadata"]["generation"] for (_, name), entry in entries}
            if held == known:
                return
            await self.changed.wait()


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """kopf on a fresh server; it must still run at the end."""
    settings = watching.build_settings

    def quick() -> object:
        given = settings()
        given.watching.reconnect_backoff = SHORT_S
        given.networking.error_backoffs = (SHORT_S,) * 5
        return given

    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(watching, "build_settings", quick),
        patch.object(listening, "EMPTY_STREAM_PAUSE_S", SHORT_S),
    ):
        config = Path(folder) / "kubeconfig"
        async with fake_api() as api:
            config.write_text(json.dumps(kubeconfig(api.url)))
            here, started = Watched(api), asyncio.Event()
            here.mirror.on_change(lambda *_: here.changed.set())
            client = ClientSettings(kubeconfig=str(config))
            task = asyncio.create_task(watching.watch(Streams(here.mirror), client, started=started))
            await asyncio.wait_for(api.wait_for_watches(DDS), NOTICED_S)
            try:
                yield here
                assert not task.done(), "the watch died"
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait_for(task, NOTICED_S)


def restarts(number: int, ends: tuple[str, ...] = tuple(ENDS), seed: int = 1) -> Callable[[], Outcome]:
    """So many ends of the stream; before, at and after each of them something is made, changed or deleted."""

    async def live() -> Outcome:
        chance, longest_s, made = random.Random(seed), 0.0, 0
        async with watched() as here:
            for count in range(number):
                for _ in range(chance.randrange(3)):
                    made = _change(here, chance, made)
                stream = here.api.watching.pop(DDS)
                stream.put_nowait(ENDS[ends[count % len(ends)]])
                for _ in range(chance.randrange(1, 4)):
                    made = _change(here, chance, made)
                    await asyncio.sleep(chance.choice((0.0, 0.0, SHORT_S)))
                began_s = time.monotonic()
                async with asyncio.timeout(NOTICED_S):
                    await here.until_equal()
                    longest_s = max(longest_s, time.monotonic() - began_s)
                    await here.api.wait_for_watches(DDS)
            return Outcome(longest_s, number, {"made": made, "missed": 0})

    return lambda: asyncio.run(live())


def _change(here: Watched, chance: random.Random, made: int) -> int:
    """Half of all changes make a new one; how many have been made."""
    names = here.names()
    what = chance.choice(("make", "make", "change", "delete")) if names else "make"
    if what == "make":
        here.put(f"dd-{made}", 1)
        return made + 1
    if what == "change":
        here.put(chance.choice(names), chance.randrange(2, 1000))
    else:
        here.delete(chance.choice(names))
    return made
