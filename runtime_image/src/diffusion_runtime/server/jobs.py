"""A bounded queue of accepted requests.

An accepted request is always answered: with pictures or with an error.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from diffusion_runtime.generation.messages import PictureRequest

from .rank_group import Picture


class QueueFull(Exception):
    """No room; come back later."""


@dataclass
class Job:
    """One request for one or more pictures, drawn one after the other. `result` resolves exactly once.

    `retried`: it ran out of memory once and goes on with a fallback; `executed` is the hash of what drew the
    last picture. `started`: it is being drawn, and `steps_done` tells how far its picture is.
    """

    requests: Sequence[PictureRequest]
    result: asyncio.Future[list[Picture]]
    abandoned: bool = False
    accepted_at: float = 0.0
    pictures: list[Picture] = field(default_factory=list)
    retried: bool = False
    executed: str = ""
    started: bool = False
    steps_done: Callable[[], int] = lambda: 0

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless already answered."""
        if not self.result.done():
            self.result.set_exception(error)


class JobQueue:
    """First in, first out. `idle` is set when nothing waits and nothing runs."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._running: Job | None = None
        self.idle = asyncio.Event()
        self.idle.set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ahead(self) -> int:
        """Jobs that a new one would wait for."""
        return len(self._waiting) + int(self._running is not None)

    @property
    def requests_ahead(self) -> Iterator[PictureRequest]:
        """What of those jobs is not drawn yet. Nobody draws what waits for a client that hung up."""
        waiting = [job for job in self._waiting if not job.abandoned]
        for job in (*([self._running] if self._running else []), *waiting):
            yield from job.requests[len(job.pictures) :]

    def put(self, job: Job) -> None:
        """Accept a job; QueueFull when `capacity` jobs wait already."""
        if len(self._waiting) >= self._capacity:
            self._drop_abandoned()
        if len(self._waiting) >= self._capacity:
            raise QueueFull
        self._waiting.append(job)
        self._arrived.set()
        self.idle.clear()

    def _drop_abandoned(self) -> None:
        """Clients that hung up make room for those that have not; nobody reads their empty answer."""
        for job in self._waiting:
            if job.abandoned and not job.result.done():
                job.result.set_result([])
        self._waiting = deque(job for job in self._waiting if not job.abandoned)

    async def wait(self) -> None:
        """Until a job waits. Takes none, so cancelling this loses none."""
        await self._arrived.wait()

    def take(self) -> Job:
        """The oldest job, which runs until `finished`."""
        job = self._waiting.popleft()
        self._running = job
        if not self._waiting:
            self._arrived.clear()
        return job

    def put_back(self, job: Job) -> None:
        """The running job waits again, before all others; `finished` follows."""
        self._running = None
        self._waiting.appendleft(job)
        self._arrived.set()

    def finished(self) -> None:
        """The running job is answered."""
        self._running = None
        if not self._waiting:
            self.idle.set()

    def fail_waiting(self, error: Exception) -> None:
        """Answer every waiting job with an error; the running one goes on."""
        while self._waiting:
            self._waiting.popleft().fail(error)
        self._arrived.clear()

    def fail_all(self, error: Exception) -> None:
        """Answer every waiting job with an error; none is running any more."""
        self.fail_waiting(error)
        self.finished()
