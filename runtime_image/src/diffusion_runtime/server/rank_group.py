"""One set of rank processes from start to end. It fails as a whole: the first dead, silent or failing rank
ends all.

The parent's side of the pipes; torch-free. It restarts nothing: `engine` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from diffusion_runtime.generation.failures import HOST_OOM_KILLED, RANK_DIED, RANK_HUNG, RANK_LOST
from diffusion_runtime.generation.messages import (
    Done,
    PictureFailed,
    PictureRequest,
    RankFailure,
    Ready,
    StartRank,
)
from diffusion_runtime.loading.host_memory import oom_kills
from diffusion_runtime.planning.documents import Execution, Shape

from .limits import Limits
from .patience import overdue
from .rank_process import Answer, RankHandle

T = TypeVar("T")


class GroupFailed(Exception):
    """The group is gone; `failure` says why."""

    def __init__(self, failure: RankFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class UndrawableRequest(Exception):
    """The ranks refused this picture; the group is fine."""

    def __init__(self, failure: PictureFailed) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class Picture:
    """An encoded picture and what each rank measured."""

    body: bytes
    ranks: tuple[Done, ...]

    @property
    def compiled(self) -> bool:
        """Whether the blocks ran compiled."""
        return all(rank.compiled for rank in self.ranks)


@dataclass(frozen=True)
class RankCommand:
    """How a rank process is started: argument list and the variables it gets beside ours."""

    arguments: Sequence[str]
    environment: dict[str, str]


class RankGroup:
    """`start` once, then any number of `draw` one after the other, then `close`.

    `failed` resolves when it is lost.
    """

    def __init__(
        self,
        command: RankCommand,
        execution: Execution,
        model_path: Path,
        limits: Limits,
        clock: Callable[[], float],
        shapes: tuple[Shape, ...] = (),
        guidance: bool = True,
        oom_kills: Callable[[], int] = oom_kills,
    ) -> None:
        self._command = command
        self._execution = execution
        self._shapes = shapes
        self._guidance = guidance
        self._model_path = model_path
        self._limits = limits
        self._clock = clock
        self._oom_kills = oom_kills
        self._oom_kills_before = oom_kills()
        self._asked = False
        self._folder = Path(tempfile.mkdtemp(prefix="diffusion-ranks-"))
        self._ranks: list[RankHandle] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._evidence: list[RankFailure] = []
        self._evident = asyncio.Event()
        self.failed: asyncio.Future[RankFailure] = asyncio.get_running_loop().create_future()

    @property
    def process_ids(self) -> list[int]:
        """Of the rank processes, in rank order."""
        return [rank.process_id for rank in self._ranks]

    @property
    def progress_at(self) -> float | None:
        """When a rank got on last, by the clock; None before one was started."""
        return max((rank.progress_at for rank in self._ranks), default=None)

    async def start(self) -> tuple[Ready, ...]:
        """Start all ranks and wait until each has loaded. Raises GroupFailed."""
        self._tasks += [asyncio.create_task(self._judge()), asyncio.create_task(self._watch())]
        for index in range(self._execution.layout.ranks):
            command = self._command
            handle = await RankHandle.spawn(index, command.arguments, command.environment, self._clock)
            self._ranks.append(handle)
            self._tasks.append(asyncio.create_task(handle.listen(self._report)))
            handle.send(self._start_frame(index).to_dict())
        ready = await self._unless_failed(self._all_ready())
        for rank in self._ranks:
            rank.heard_at = self._clock()  # before this nobody asked it
        self._asked = True
        return tuple(ready)

    async def draw(self, request: PictureRequest) -> Picture:
        """Draw one picture on all ranks.

        Raises UndrawableRequest (group fine) or GroupFailed (group gone).
        """
        for rank in self._ranks:
            rank.begin()
            rank.send({"kind": "draw", "request": request.to_dict()})
        answers = await self._unless_failed(self._answers())
        for result, _ in answers:
            if isinstance(result, PictureFailed):
                raise UndrawableRequest(result)
        return Picture(answers[0][1], tuple(result for result, _ in answers if isinstance(result, Done)))

    async def close(self) -> None:
        """Kill and reap every rank, stop every task, remove the rendezvous. Safe to call at any time."""
        for rank in self._ranks:
            rank.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for rank in self._ranks:
            await rank.reaped()
            rank.forget()
        self.failed.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_frame(self, rank: int) -> StartRank:
        return StartRank(
            rank=rank,
            execution=self._execution,
            model_path=str(self._model_path),
            rendezvous=str(self._folder / "rendezvous"),
            collective_timeout_s=self._limits.collective_s,
            shapes=self._shapes,
            guidance=self._guidance,
        )

    async def _all_ready(self) -> list[Ready]:
        return await asyncio.gather(*(rank.ready for rank in self._ranks))

    async def _answers(self) -> list[Answer]:
        """Every rank's answer.

        Once one refuses the picture the others must follow soon, else they are out of step.
        """
        waiting = {rank.answer: rank for rank in self._ranks}
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        refused = any(isinstance(answer.result()[0], PictureFailed) for answer in done)
        if pending:
            _, pending = await asyncio.wait(pending, timeout=self._limits.settle_s if refused else None)
        for answer in pending:
            self._hung(waiting[answer], "did not follow when another rank gave this picture up")
        if pending:
            await asyncio.shield(self.failed)
        return [answer.result() for answer in waiting]

    async def _unless_failed(self, work: Awaitable[T]) -> T:
        """The result of `work`, or GroupFailed as soon as the group is lost."""
        task = asyncio.ensure_future(work)
        try:
            waiting: set[asyncio.Future[Any]] = {task, self.failed}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self.failed.done():
                raise GroupFailed(self.failed.result())
            return task.result()
        finally:
            task.cancel()

    def _report(self, failure: RankFailure) -> None:
        if failure.reason == RANK_DIED and self._oom_kills() > self._oom_kills_before:
            message = f"{failure.message} The kernel killed it: the container's memory limit is reached."
            failure = failure.model_copy(update={"reason": HOST_OOM_KILLED, "message": message})
        self._evidence.append(failure)
        self._evident.set()

    def _hung(self, rank: RankHandle, what: str) -> None:
        message = f"Rank {rank.rank} (process {rank.process_id}) {what}, phase {rank.phase}."
        self._report(RankFailure(reason=RANK_HUNG, message=message, phase=rank.phase, rank=rank.rank))

    async def _judge(self) -> None:
        """Turn evidence into the group's failure.

        A lost connection only says that another rank is gone: wait for it.
        """
        await self._evident.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.settle_s):
                while self._best_evidence().reason == RANK_LOST:
                    self._evident.clear()
                    await self._evident.wait()
        self.failed.set_result(self._best_evidence())

    def _best_evidence(self) -> RankFailure:
        """What a rank says of itself beats its death, which beats what it says of others."""
        weight = {RANK_LOST: 0, RANK_DIED: 1, RANK_HUNG: 1}
        return max(self._evidence, key=lambda failure: weight.get(failure.reason, 2))

    async def _watch(self) -> None:
        """Look at every rank; ping those that are ready. Those that load must get on."""
        while not self.failed.done():
            if self._asked:
                for rank in self._ranks:
                    rank.send({"kind": "ping"})
            await asyncio.sleep(self._limits.look_s)
            for rank in self._ranks:
                what = overdue(rank.signs(self._asked), self._clock(), self._limits)
                if what is not None:
                    self._hung(rank, what)
