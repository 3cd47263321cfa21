"""Clips asked for: each is a job of the engine until it is drawn, then a file on disk until it is too old.

HTTP-free. Nothing outlives the process: files and what is known of them end with the pod. Bounds: waiting
clips by the engine's queue, files by count, bytes and age; the oldest go first.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from diffusion_runtime.generation.messages import PictureRequest

from .jobs import Job
from .video_request import VideoRules

Status = Literal["queued", "in_progress", "completed", "failed"]


@dataclass(frozen=True)
class VideoLimits:
    """How many finished clips are kept, how many bytes, and how long after they were done."""

    kept: int = 200
    kept_bytes: int = 2 * 1024**3
    kept_s: float = 3600.0


@dataclass
class Video:
    """One clip. `job` is None once it is drawn or has failed; `path` is there when it is drawn."""

    request: PictureRequest
    job: Job | None
    created_at: float
    id: str = field(default_factory=lambda: f"video_{uuid.uuid4().hex}")
    ended_at: float | None = None
    path: Path | None = None
    error: Exception | None = None
    collected: bool = False

    @property
    def status(self) -> Status:
        """As OpenAI names it."""
        if self.job is not None:
            return "in_progress" if self.job.started else "queued"
        return "failed" if self.path is None else "completed"

    @property
    def progress(self) -> int:
        """Per cent of the denoising steps; 99 while the last of the work is done."""
        if self.job is None:
            return 100 if self.path is not None else 0
        return min(99, 100 * self.job.steps_done() // self.request.all_steps)


class Videos:
    """All clips that this process knows. `close` removes the files."""

    def __init__(
        self, rules: VideoRules, limits: VideoLimits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.rules = rules
        self._limits = limits or VideoLimits()
        self._clock = clock
        self._folder = Path(tempfile.mkdtemp(prefix="diffusion-videos-"))
        self._videos: dict[str, Video] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._draining_since: float | None = None

    @property
    def limits(self) -> VideoLimits:
        """What is kept."""
        return self._limits

    def add(self, request: PictureRequest, job: Job) -> Video:
        """Know a clip whose job was just accepted; follow it to its end."""
        video = Video(request, job, created_at=self._clock())
        self._videos[video.id] = video
        task = asyncio.create_task(self._follow(video, job))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return video

    def get(self, video_id: str) -> Video | None:
        """The clip of that id; None when there is none or none any more."""
        self._forget_old()
        return self._videos.get(video_id)

    def all(self) -> list[Video]:
        """The newest first."""
        self._forget_old()
        return list(reversed(self._videos.values()))

    def remove(self, video: Video) -> None:
        """Forget a clip and its file. One that waits is not drawn; one that is being drawn is thrown away."""
        self._videos.pop(video.id, None)
        if video.job is not None:
            video.job.abandoned = True
        if video.path is not None:
            video.path.unlink(missing_ok=True)
        self._changed.set()

    def mark_collected(self, video: Video) -> None:
        """A client has its file."""
        video.collected = True
        self._changed.set()

    def drain(self) -> None:
        """The process is to end: what is done from now on is waited for."""
        self._draining_since = self._clock()

    async def all_collected(self, timeout_s: float) -> None:
        """Until every file that was done since `drain` was fetched once, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(self._is_awaited(video) for video in self._videos.values()):
                    self._changed.clear()
                    await self._changed.wait()

    def _is_awaited(self, video: Video) -> bool:
        if video.path is None or video.ended_at is None or self._draining_since is None:
            return False
        return not video.collected and video.ended_at >= self._draining_since

    def close(self) -> None:
        """Stop following, remove all files."""
        for task in self._following:
            task.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _follow(self, video: Video, job: Job) -> None:
        try:
            pictures = await job.result
            if pictures and video.id in self._videos:
                path = self._folder / f"{video.id}.mp4"
                await asyncio.to_thread(path.write_bytes, pictures[0].body)
                video.path = path
        except Exception as error:  # noqa: BLE001  # whatever ended it is told to who asks for the clip
            video.error = error
        video.ended_at, video.job = self._clock(), None
        if video.id not in self._videos:
            self.remove(video)  # deleted while its file was written
        self._forget_old()

    def _forget_old(self) -> None:
        """Too old; then too many or too large together, the oldest first."""
        ended = [video for video in self._videos.values() if video.ended_at is not None]
        ended.sort(key=lambda video: video.ended_at or 0.0)
        sizes = {video.id: video.path.stat().st_size if video.path else 0 for video in ended}
        total = sum(sizes.values())
        for index, video in enumerate(ended):
            age = self._clock() - (video.ended_at or 0.0)
            crowded = len(ended) - index > self._limits.kept or total > self._limits.kept_bytes
            if age > self._limits.kept_s or crowded:
                total -= sizes[video.id]
                self.remove(video)
