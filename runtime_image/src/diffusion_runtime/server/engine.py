"""The life of the engine: start a rank group, feed it jobs, replace it when it is lost, end when that does
not help.

Torch-free and HTTP-free: `api` and `generate` both drive it. It follows the plan or, after a group ran out of
memory, the plan's next fallback; it never invents a layout.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from diffusion_runtime.generation.failures import HOST_MEMORY_REASONS, MEMORY_REASONS
from diffusion_runtime.generation.messages import PictureRequest, RankFailure
from diffusion_runtime.loading.executable import is_executable
from diffusion_runtime.loading.fitting import Start, planned_host_bytes
from diffusion_runtime.planning.documents import EngineReport, Execution, Plan

from . import report as reports
from .jobs import Job, JobQueue, QueueFull
from .limits import Limits
from .metrics import EngineMetrics
from .pace import Pace
from .rank_group import GroupFailed, Picture, RankGroup, UndrawableRequest
from .termination import EXIT_FAILED, EXIT_REFUSED, EngineEnded, unforeseen

logger = logging.getLogger(__name__)
StartGroup = Callable[[Execution], RankGroup]


class NotServing(Exception):
    """Draining or failed: this engine accepts nothing more."""


class OutOfTime(NotServing):
    """This request was accepted, but the time that the pod is given to end is over."""


class Engine:
    """`run` until it returns (drained) or raises EngineEnded; meanwhile `submit` jobs, read `report`."""

    def __init__(
        self,
        plan: Plan,
        start_group: StartGroup,
        limits: Limits,
        metrics: EngineMetrics,
        clock: Callable[[], float],
        start: Start | None = None,
        driver_version: str | None = None,
    ) -> None:
        start = start or Start((plan, *filter(is_executable, plan.fallbacks)))
        self.plan = plan
        self.metrics = metrics
        self.report: EngineReport = reports.first_report(plan)
        self.queue = JobQueue(limits.queue_capacity)
        self.process_ids: list[int] = []
        self._pace = Pace(plan)
        metrics.queue_seconds.set_function(self.queue_seconds)
        self._group: RankGroup | None = None
        self._start_group = start_group
        self._limits = limits
        self._clock = clock
        self._executions: deque[Execution] = deque(start.executions)
        self._why = start.why
        self._driver_version = driver_version
        self._failures: deque[float] = deque()
        self._draining = asyncio.Event()
        self._accepting = True

    @property
    def ready(self) -> bool:
        """Whether requests are served now."""
        return self.report.state == "ready"

    def queue_seconds(self) -> float:
        """Seconds of accepted work that is not drawn yet. A size that was not drawn before counts as the plan
        predicts.
        """
        return self._seconds_of(self.queue.requests_ahead)

    def report_now(self) -> EngineReport:
        """The report, and while a group loads how long ago it got on."""
        at = self._group.progress_at if self._group is not None and self.report.state == "loading" else None
        if at is None:
            return self.report
        return self.report.model_copy(update={"load_idle_seconds": round(self._clock() - at, 1)})

    @property
    def executing(self) -> Execution:
        """The plan or the fallback of it that is followed now."""
        return self._executions[0]

    def submit(self, requests: Sequence[PictureRequest]) -> Job:
        """Accept a request. Raises QueueFull or NotServing."""
        if not self._accepting:
            raise NotServing
        if self._is_too_much(requests):
            raise QueueFull
        future: asyncio.Future[list[Picture]] = asyncio.get_running_loop().create_future()
        job = Job(requests, future, accepted_at=self._clock())
        self.queue.put(job)
        self.metrics.queue_length.set(len(self.queue))
        return job

    def _is_too_much(self, requests: Sequence[PictureRequest]) -> bool:
        """Whether it is more than can be finished in the time of a drain. Alone, any request is accepted."""
        most_s, ahead_s = self._limits.queue_s, self.queue_seconds()
        return most_s is not None and ahead_s > 0 and ahead_s + self._seconds_of(requests) > most_s

    def _seconds_of(self, requests: Iterable[PictureRequest]) -> float:
        return sum(map(self._pace.seconds, requests))

    def drain(self) -> None:
        """Readiness turns red now; requests are accepted for the grace time, then the accepted ones are
        finished.
        """
        if not self._draining.is_set():
            self._draining.set()
            self._set_state("draining")

    async def run(self) -> None:
        """Serve until drained. Raises EngineEnded when no group can be kept alive."""
        drained = asyncio.create_task(self._drained())
        try:
            while True:
                group = self._start_group(self._executions[0])
                failure = await self._run_group(group, drained)
                if failure is None:
                    return
                self._after_failure(failure)
        except EngineEnded as ended:
            self._end(ended)
            raise
        except Exception as error:
            # No room in /tmp, no process to be had, a bug: who waits must be answered all the same.
            end = EngineEnded(EXIT_FAILED, unforeseen(error, "engine"))
            self._end(end)
            raise end from error
        finally:
            self._accepting = False
            self.metrics.ready.set(0)
            drained.cancel()

    async def _run_group(self, group: RankGroup, drained: asyncio.Task[None]) -> RankFailure | None:
        """One group's life; None when the engine drained, else why the group was lost."""
        self.report = reports.executing(self.report, self.plan, self._executions[0], self._why)
        self._group = group
        try:
            start = asyncio.create_task(group.start())
            await asyncio.wait({start, drained}, return_when=asyncio.FIRST_COMPLETED)
            if drained.done() and not start.done():
                start.cancel()
                await asyncio.gather(start, return_exceptions=True)
                return None
            report = reports.with_ready(self.report, await start, self._driver_version)
            self.report = reports.with_failure(report, None)
            self.process_ids = group.process_ids
            self._mark_ready()
            return await self._feed(group, drained)
        except GroupFailed as lost:
            return lost.failure
        finally:
            self.process_ids, self._group = [], None
            await group.close()

    async def _feed(self, group: RankGroup, drained: asyncio.Task[None]) -> RankFailure | None:
        """Give the group one job after the other until it is lost or all is drained."""
        while True:
            arrival = asyncio.create_task(self.queue.wait())
            events: set[asyncio.Future[Any]] = {arrival, group.failed, drained}
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            arrival.cancel()
            if group.failed.done():
                self._set_loading()
                return group.failed.result()
            if len(self.queue):
                job = self.queue.take()
                work = asyncio.create_task(self._work(group, job))
                await asyncio.wait({work, drained}, return_when=asyncio.FIRST_COMPLETED)
                if drained.done() and not work.done():  # the time to drain is over
                    work.cancel()
                    await asyncio.gather(work, return_exceptions=True)
                    job.fail(OutOfTime())
                    return None
                await work
            elif drained.done():
                return None

    async def _work(self, group: RankGroup, job: Job) -> None:
        """Draw one job. Raises GroupFailed after answering it with the same, or after putting it back."""
        self.metrics.queue_length.set(len(self.queue))
        self.metrics.running.set(1)
        job.started, job.steps_done = True, lambda: group.steps_done
        try:
            for request in job.requests[len(job.pictures) :]:
                if job.abandoned:
                    break
                picture = await group.draw(request)
                job.pictures.append(picture)
                job.executed = self.report.executing_hash
                self._record(request, picture)
            if not job.result.done():
                job.result.set_result(job.pictures)
        except UndrawableRequest as refused:
            job.fail(refused)
        except GroupFailed as lost:
            # Readiness first: who reads the error must not find the engine still green.
            self._set_loading()
            if self._can_retry(job, lost.failure):
                job.retried, job.started = True, False
                self.queue.put_back(job)
            else:
                job.fail(lost)
            raise
        except Exception as error:
            job.fail(error)
            raise
        finally:
            self.queue.finished()
            self.metrics.running.set(0)
            if job.result.done():
                self.metrics.request_seconds.observe(self._clock() - job.accepted_at)

    def _record(self, request: PictureRequest, picture: Picture) -> None:
        self._pace.learn(request, reports.request_seconds(picture.ranks))
        self.report = reports.with_picture(self.report, picture.ranks)
        self.metrics.pictures.inc()
        self.metrics.observe_stages(picture.ranks[0].phases)

    def _can_retry(self, job: Job, failure: RankFailure) -> bool:
        """One rank that ran out of memory: its end has freed all, the next fallback may draw the same.

        Several ranks: the client is told at once and comes back, as a new group takes minutes.
        """
        alone = self._executions[0].layout.ranks == 1
        return alone and not job.retried and self._next_smaller(failure) is not None

    def _next_smaller(self, failure: RankFailure) -> int | None:
        """Which of the executions may do where this one ran out of memory; None when that was not the cause.

        Less memory on the GPU may mean more on the host, so what the host lacked must really shrink.
        """
        if failure.reason not in MEMORY_REASONS or failure.final:
            return None
        if failure.reason not in HOST_MEMORY_REASONS:
            return 1 if len(self._executions) > 1 else None
        needs = [planned_host_bytes(self.plan, execution) for execution in self._executions]
        smaller = (i for i, need in enumerate(needs) if i and need is not None and need < (needs[0] or 0))
        return next(smaller, None)

    def _after_failure(self, failure: RankFailure) -> None:
        """Count it, choose what the next group executes, or give up."""
        logger.error("rank group lost: %s in phase %s: %s", failure.reason, failure.phase, failure.message)
        self.report = reports.with_failure(self.report, failure)
        if failure.final:
            raise EngineEnded(EXIT_REFUSED, failure)
        smaller = self._next_smaller(failure)
        if smaller is not None:
            # Not counted: a new container would begin with the plan again and never reach the last fallback.
            for _ in range(smaller):
                self._executions.popleft()
            self._why = f"{failure.reason} in phase {failure.phase}: {failure.message}"
        else:
            self._count(failure, self._clock())
        self.report = self.report.model_copy(
            update={"rank_group_restarts": self.report.rank_group_restarts + 1}
        )
        self.metrics.rank_group_restarts.inc()

    def _count(self, failure: RankFailure, now: float) -> None:
        self._failures.append(now)
        while now - self._failures[0] > self._limits.failure_window_s:
            self._failures.popleft()
        if len(self._failures) >= self._limits.max_group_failures:
            raise EngineEnded(EXIT_FAILED, self._give_up(failure))

    def _give_up(self, failure: RankFailure) -> RankFailure:
        """The last failure as the container's; a reason that operators know, the count in the sentence."""
        reason = failure.reason if failure.reason in MEMORY_REASONS else "CrashLoop"
        message = (
            f"{len(self._failures)} rank groups were lost within {self._limits.failure_window_s:.0f} s; "
            f"the last one: {failure.reason}: {failure.message}"
        )
        return failure.model_copy(update={"reason": reason, "message": message})

    def _end(self, ended: EngineEnded) -> None:
        self._accepting = False
        executing = self.report.executing_hash
        ended.failure = ended.failure.model_copy(update={"executing_hash": executing})
        self.report = reports.with_failure(self.report, ended.failure)
        self._set_state("failed")
        self.queue.fail_all(ended)

    async def _drained(self) -> None:
        """Returns when every accepted request is answered, or when the time for that is over."""
        await self._draining.wait()
        limits = self._limits
        left_s = None if limits.drain_s is None else limits.drain_s - limits.last_answers_s
        try:
            async with asyncio.timeout(left_s):
                await asyncio.sleep(limits.drain_grace_s)
                self._accepting = False
                await self.queue.idle.wait()
        except TimeoutError:
            self._accepting = False
            self.queue.fail_waiting(OutOfTime())

    def _mark_ready(self) -> None:
        self.metrics.plan_info.clear()
        self.metrics.plan_info.labels(
            self.plan.hash,
            self.report.executing_hash,
            self.plan.mode,
            self.plan.model.name,
            self.plan.device,
            str(self.report.ranks),
        ).set(1)
        if not self._draining.is_set():
            self._set_state("ready")

    def _set_loading(self) -> None:
        if not self._draining.is_set():
            self._set_state("loading")

    def _set_state(self, state: reports.State) -> None:
        self.report = self.report.model_copy(update={"state": state})
        self.metrics.ready.set(1 if state == "ready" else 0)
