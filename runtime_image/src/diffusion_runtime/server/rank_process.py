"""The parent's handle on one rank: its pipes, when it was last heard, what it is doing. Judges nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffusion_runtime.generation.failures import RANK_DIED, RANK_ERROR
from diffusion_runtime.generation.messages import Done, PictureFailed, RankFailure, Ready
from diffusion_runtime.generation.wire import Frame, WireError, encode, read_frame_async

from .patience import Signs

Answer = tuple[Done | PictureFailed, bytes]
READ_LIMIT_BYTES = 1024 * 1024


class RankHandle:
    """One running rank process. `ready` and `answer` are futures that its frames resolve."""

    def __init__(self, rank: int, process: asyncio.subprocess.Process, clock: Callable[[], float]) -> None:
        loop = asyncio.get_running_loop()
        self.rank = rank
        self.phase = "start"
        self.heard_at = self.progress_at = clock()
        self.ready: asyncio.Future[Ready] = loop.create_future()
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self.drawing = False
        self._stopped_at: float | None = None
        self._process = process
        self._clock = clock

    @classmethod
    async def spawn(
        cls, rank: int, command: Sequence[str], environment: dict[str, str], clock: Callable[[], float]
    ) -> RankHandle:
        """Start the process; its stderr is ours, so that its words reach the container's log."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
            limit=READ_LIMIT_BYTES,
            # Ctrl+C in a terminal reaches the parent only, which then ends the ranks in order.
            start_new_session=True,
        )
        return cls(rank, process, clock)

    @property
    def process_id(self) -> int:
        """Of the rank."""
        return self._process.pid

    def signs(self, asked: bool) -> Signs:
        """What is known of it now. `asked`: it is being pinged, so silence means something."""
        if not _is_stopped(self.process_id):
            self._stopped_at = None
        elif self._stopped_at is None:
            self._stopped_at = self._clock()
        starting, warming = not self.ready.done(), self.phase == "warm"
        return Signs(
            self.heard_at if asked else None,
            self.progress_at,
            self.drawing or (starting and warming),
            self._stopped_at,
            loading=starting and not warming,
        )

    def send(self, header: dict[str, Any]) -> None:
        """Queue one frame; a rank that is gone is noticed by `listen`, not here."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(encode(header))

    def begin(self) -> None:
        """A picture starts: forget the last answer."""
        self.answer = asyncio.get_running_loop().create_future()
        self.drawing, self.progress_at = True, self._clock()

    async def listen(self, report: Callable[[RankFailure], None]) -> None:
        """Read frames until the pipe ends, which is always a failure: a rank never ends by itself in good
        order.
        """
        stdout = self._process.stdout
        if stdout is None:
            raise RuntimeError("the rank was started without a pipe")
        try:
            while (frame := await read_frame_async(stdout)) is not None:
                self.heard_at = self._clock()
                if frame.kind == "failed":
                    # Its own words; the exit that follows adds nothing.
                    report(RankFailure.model_validate(frame.header))
                    return
                self._take(frame)
        except (WireError, ValueError, asyncio.InvalidStateError) as error:
            message = f"Rank {self.rank} sent what is no message: {error}"
            report(RankFailure(reason=RANK_ERROR, message=message[:1000], phase=self.phase, rank=self.rank))
            return
        report(self._died(await self._process.wait()))

    def kill(self) -> None:
        """SIGKILL, which also ends a stopped process."""
        # Not `Process.kill`: it polls first and may so take the exit status from under asyncio's watcher,
        # which then reports an unknown child and a made-up exit code.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGKILL)

    async def reaped(self) -> None:
        """Wait for the killed process to be gone and close its pipes; nobody may listen any more."""
        stdout = self._process.stdout
        with contextlib.suppress(OSError):
            # What lies unread pauses the pipe: asyncio would not see its end, and `wait` waits for that.
            while stdout is not None and await stdout.read(READ_LIMIT_BYTES):
                pass
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(ConnectionError):
                await self._process.stdin.wait_closed()

    def forget(self) -> None:
        """Nobody waits for this rank any more."""
        self.ready.cancel()
        self.answer.cancel()

    def _take(self, frame: Frame) -> None:
        if frame.kind == "phase":
            self.phase, self.progress_at = str(frame.header.get("phase")), self._clock()
        elif frame.kind == "ready":
            self.ready.set_result(Ready.model_validate(frame.header))
        elif frame.kind in ("done", "pictureFailed"):
            kind = Done if frame.kind == "done" else PictureFailed
            self.drawing = False
            self.answer.set_result((kind.model_validate(frame.header), frame.body))
        elif frame.kind != "pong":
            raise WireError(f"unknown kind {frame.kind!r}")

    def _died(self, code: int) -> RankFailure:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        message = f"Rank {self.rank} (process {self.process_id}) ended with {how} in phase {self.phase}."
        return RankFailure(reason=RANK_DIED, message=message, phase=self.phase, rank=self.rank)


def _is_stopped(process_id: int) -> bool:
    """Whether a signal (SIGSTOP) keeps it from running: state T behind the name in /proc/<pid>/stat."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False
