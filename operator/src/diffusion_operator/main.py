"""Starts the operator and stops it in order. Decides nothing about DiffusionDeployments.

Everything runs in one TaskGroup: when a watch, a worker or the resync dies, all end and the process exits
non-zero, because an operator that is half blind is worse than one that restarts.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kubernetes.aio.config import ConfigException

from diffusion_operator.health import start_http
from diffusion_operator.kube.errors import StoreWentBack
from diffusion_operator.kube.lease import Lease, LeaseLost
from diffusion_operator.kube.reports import HttpReportReader
from diffusion_operator.kube.rest import RestKubeClient, load_configuration
from diffusion_operator.logs import configure_logging
from diffusion_operator.preconditions import Preconditions
from diffusion_operator.reconcile.hints import Hints
from diffusion_operator.reconcile.keys import Key
from diffusion_operator.reconcile.metrics import Metrics
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.queue import KeyedQueue
from diffusion_operator.reconcile.story import Reconciler
from diffusion_operator.reconcile.streams import Streams, mend_silent_watches
from diffusion_operator.reconcile.wakes import Wakes
from diffusion_operator.reconcile.worker import resync, work
from diffusion_operator.settings import OperatorSettings, read_settings
from diffusion_operator.watch import watch

logger = logging.getLogger("diffusion_operator")

DRAIN_S = 10.0
EVENTS_DRAIN_S = 5.0
LEASE_TIMEOUT_S = 5.0
# At Python's own 700 it walks through all that the mirror holds again and again while one list is
# read: at 5,000 pods that took as long as reading it, half a second at a time.
COLLECT_AFTER = (50_000, 20, 50)


def main() -> None:
    """Entry point of `diffusion-operator`. Exit codes: 0 stopped by signal, 1 failed, 2 bad settings."""
    settings = read_settings(sys.argv[1:])
    configure_logging(settings.log_level, settings.log_format)
    gc.set_threshold(*COLLECT_AFTER)
    try:
        # Without clean-up: after the Lease is lost not one more request may leave this process.
        asyncio.run(run(settings, end_at_once=lambda: os._exit(1)))
    except ConfigException as error:
        sys.exit(f"diffusion-operator cannot start: {error}")
    except ExceptionGroup as group:
        for cause in _leaves(group):
            foreseen = isinstance(cause, LeaseLost | StoreWentBack)
            logger.error("ending: %s: %s", type(cause).__name__, cause, exc_info=None if foreseen else cause)
        sys.exit(1)


async def run(settings: OperatorSettings, *, end_at_once: Callable[[], None] = lambda: None) -> None:
    """Run until SIGTERM or SIGINT. Raises when a part of the operator dies.

    `end_at_once` is called when the Lease is lost, before anything else; the process passes its hard exit.
    """
    metrics, mirror = Metrics(), Mirror()
    streams = Streams(mirror)
    configuration = await load_configuration(settings.client)
    # Renewals have a client of their own: they never wait behind our other requests.
    lease_client = RestKubeClient(configuration, replace(settings.client, request_timeout_s=LEASE_TIMEOUT_S))
    lease = Lease(lease_client, settings.lease) if settings.lease is not None else None
    client = RestKubeClient(
        configuration,
        settings.client,
        observe_call=metrics.observe_call,
        check_write=lease.check if lease is not None else lambda: None,
    )
    reports = HttpReportReader()
    preconditions = Preconditions(client, settings.lease.namespace if settings.lease is not None else None)
    metrics.watch_obstacles(lambda: preconditions.problem is not None or bool(streams.refusals()))
    runner, port = await start_http(
        settings.http_port,
        metrics,
        unwell=streams.problem,
        unready=lambda: preconditions.problem or _unready(mirror),
    )
    logger.info("probes and metrics on port %d", port)
    try:
        await preconditions.wait()
        parts = _Parts(settings, client, reports, metrics, mirror, streams, lease)
        await _serve(parts, end_at_once)
    finally:
        await runner.cleanup()
        await reports.close()
        await client.close()
        await lease_client.close()


@dataclass(frozen=True)
class _Parts:
    """What the process is put together from."""

    settings: OperatorSettings
    client: RestKubeClient
    reports: HttpReportReader
    metrics: Metrics
    mirror: Mirror
    streams: Streams
    lease: Lease | None


async def _serve(parts: _Parts, end_at_once: Callable[[], None]) -> None:
    loop, settings, mirror = asyncio.get_running_loop(), parts.settings, parts.mirror
    queue: KeyedQueue[Key] = KeyedQueue(loop)
    reconciler = Reconciler(
        parts.client,
        mirror,
        parts.reports,
        settings.render,
        instance=settings.instance,
        terms=settings.terms,
        event_dropped=parts.metrics.event_dropped,
        crowded=lambda: len(queue) > settings.workers,
    )
    parts.metrics.watch_queue(lambda: len(queue), lambda: queue.oldest_s, lambda: len(reconciler.waiting))
    parts.metrics.watch_capacity(reconciler.gpu_totals)
    mirror.on_change(Wakes(Hints(queue, loop.time), settings.namespaces))
    leading, caught_up = asyncio.Event(), asyncio.Event()
    stop, watch_started = asyncio.Event(), asyncio.Event()
    _on_signals(loop, stop)

    async def work_when_leading() -> None:
        await caught_up.wait()
        await work(queue, reconciler, parts.metrics)

    async def resync_when_leading() -> None:
        await leading.wait()
        parts.metrics.set_leader(True)
        await resync(parts.client, mirror, queue, settings.namespaces, caught_up)

    async def watch_then_stop() -> None:
        await watch(parts.streams, settings.client, started=watch_started)
        stop.set()  # kopf ends by itself only when it caught a signal before our handlers were back

    async with asyncio.TaskGroup() as group:
        # All of these exist before kopf: when it ends it cancels every task that is younger than itself.
        workers = [group.create_task(work_when_leading()) for _ in range(settings.workers)]
        telling = group.create_task(reconciler.events.run())
        election = group.create_task(_lead(parts.lease, leading, end_at_once))
        others = [
            group.create_task(resync_when_leading()),
            group.create_task(mend_silent_watches(parts.client, parts.streams)),
            group.create_task(_take_signals_back(loop, watch_started, stop)),
        ]
        await asyncio.sleep(0)
        watching = group.create_task(watch_then_stop())
        await stop.wait()
        logger.info("stopping: %d keys left for the next leader", len(queue))
        queue.close()
        if caught_up.is_set():
            await asyncio.wait(workers, timeout=DRAIN_S)
        for task in (*workers, telling):
            task.cancel()
        await asyncio.wait([*workers, telling])
        # While the Lease is still ours. What could not be told in time is dropped.
        await reconciler.events.end(EVENTS_DRAIN_S)
        election.cancel()
        # Only when nothing of ours writes any more may another replica begin.
        await asyncio.wait([election])
        if parts.lease is not None:
            await parts.lease.release()
        for task in (*others, watching):
            task.cancel()


async def _lead(lease: Lease | None, leading: asyncio.Event, end_at_once: Callable[[], None]) -> None:
    """Wait for the Lease, say so, and keep it. Its loss ends the process: that is the fence."""
    if lease is not None:
        await lease.acquire()
    leading.set()
    if lease is None:
        return
    try:
        await lease.keep()
    except (LeaseLost, StoreWentBack) as error:
        logger.error("ending at once: %s", error)
        end_at_once()
        raise


def _unready(mirror: Mirror) -> str | None:
    """A standby is ready too: it can take over at any moment."""
    missing = mirror.unlisted()
    return f"not listed yet: {', '.join(missing)}" if missing else None


async def _take_signals_back(
    loop: asyncio.AbstractEventLoop, watch_started: asyncio.Event, stop: asyncio.Event
) -> None:
    """kopf replaces the signal handlers when it starts; ours drain the queue first."""
    await watch_started.wait()
    _on_signals(loop, stop)


def _on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    main()
