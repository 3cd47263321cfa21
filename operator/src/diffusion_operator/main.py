"""Starts the operator and stops it in order. Decides nothing about DiffusionDeployments.

Everything runs in one TaskGroup: when a watch, a worker or the resync dies, all end and the process exits
non-zero, because an operator that is half blind is worse than one that restarts.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterable, Sequence

from kubernetes.aio.config import ConfigException

from diffusion_operator.health import start_http
from diffusion_operator.kube.errors import ApiError
from diffusion_operator.kube.reports import HttpReportReader
from diffusion_operator.kube.resources import REQUIRED_ACCESS
from diffusion_operator.kube.rest import RestKubeClient, load_configuration
from diffusion_operator.logs import configure_logging
from diffusion_operator.reconcile.keys import Key
from diffusion_operator.reconcile.metrics import Metrics
from diffusion_operator.reconcile.queue import KeyedQueue
from diffusion_operator.reconcile.story import Reconciler
from diffusion_operator.reconcile.worker import resync, work
from diffusion_operator.settings import OperatorSettings, read_settings
from diffusion_operator.watch import watch

logger = logging.getLogger("diffusion_operator")

DRAIN_S = 10.0


class CannotStart(Exception):
    """Something around the operator is missing; the sentence names it."""


def main() -> None:
    """Entry point of `diffusion-operator`. Exit codes: 0 stopped by signal, 1 failed, 2 bad settings."""
    settings = read_settings(sys.argv[1:])
    configure_logging(settings.log_level, settings.log_format)
    try:
        asyncio.run(run(settings))
    except (CannotStart, ConfigException) as error:
        sys.exit(f"diffusion-operator cannot start: {error}")
    except ExceptionGroup as group:
        for cause in _leaves(group):
            logger.error("ending: %s: %s", type(cause).__name__, cause, exc_info=cause)
        sys.exit(1)


async def run(settings: OperatorSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises when a part of the operator dies."""
    metrics = Metrics()
    client = RestKubeClient(
        await load_configuration(settings.client), settings.client, observe_call=metrics.observe_call
    )
    reports = HttpReportReader()
    ready = asyncio.Event()
    runner, port = await start_http(settings.http_port, ready, metrics)
    logger.info("probes and metrics on port %d", port)
    try:
        await check_access(client, settings.namespaces)
        await _serve(settings, client, reports, metrics, ready)
    finally:
        await runner.cleanup()
        await reports.close()
        await client.close()


async def check_access(client: RestKubeClient, namespaces: Sequence[str]) -> None:
    """Ask once for every verb the operator needs, so a missing one is one clear sentence at the start."""
    asked = [
        (verb, resource, subresource, namespace)
        for resource, subresource, verbs in REQUIRED_ACCESS
        for verb in verbs
        for namespace in (namespaces or (None,))
    ]
    try:
        answers = await asyncio.gather(
            *(
                client.allowed(verb, resource, namespace=namespace, subresource=subresource)
                for verb, resource, subresource, namespace in asked
            )
        )
    except ApiError as error:
        raise CannotStart(f"the API server did not answer the permission check: {error}") from error
    missing = [
        f"{verb} {resource.plural}{f'/{subresource}' if subresource else ''}"
        for (verb, resource, subresource, _), allowed in zip(asked, answers, strict=True)
        if not allowed
    ]
    if missing:
        raise CannotStart(f"its role does not allow: {', '.join(dict.fromkeys(missing))}")


async def _serve(
    settings: OperatorSettings,
    client: RestKubeClient,
    reports: HttpReportReader,
    metrics: Metrics,
    ready: asyncio.Event,
) -> None:
    loop = asyncio.get_running_loop()
    queue: KeyedQueue[Key] = KeyedQueue(loop)
    reconciler = Reconciler(client, reports, settings.render, instance=settings.instance)
    metrics.watch_queue(lambda: len(queue), lambda: queue.oldest_s, lambda: len(reconciler.waiting))
    metrics.set_leader(True)  # the chart runs one replica, and never two at once
    stop, watch_started = asyncio.Event(), asyncio.Event()
    _on_signals(loop, stop)

    async def watch_then_stop() -> None:
        await watch(queue.add, settings.client, settings.namespaces, started=watch_started)
        stop.set()  # kopf ends by itself only when it caught a signal before our handlers were back

    async with asyncio.TaskGroup() as group:
        # Workers exist before kopf: when it ends it cancels every task that is younger than itself.
        workers = [group.create_task(work(queue, reconciler, metrics)) for _ in range(settings.workers)]
        resyncing = group.create_task(resync(client, queue, settings.namespaces, ready))
        signals = group.create_task(_take_signals_back(loop, watch_started, stop))
        await asyncio.sleep(0)
        watching = group.create_task(watch_then_stop())
        await stop.wait()
        logger.info("stopping: %d keys left for the next start", len(queue))
        ready.clear()
        queue.close()
        _, late = await asyncio.wait(workers, timeout=DRAIN_S)
        for task in (*late, resyncing, signals, watching):
            task.cancel()


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
