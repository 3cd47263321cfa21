"""Workers take keys and run the story; the resync puts every key back now and then.

A reconcile that fails, even through a bug of ours, costs its own key a back-off and nobody else anything. The
end of a worker or of the resync itself is different: it ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import ApiError, Forbidden, NotFound, Unauthorized, Unreachable
from diffusion_operator.kube.lease import LeaseLost
from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS
from diffusion_operator.reconcile.children import ChildLeaving
from diffusion_operator.reconcile.keys import CapacityKey, DeploymentKey, Key
from diffusion_operator.reconcile.log_context import reconciling
from diffusion_operator.reconcile.metrics import Metrics
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.queue import LONGEST_DELAY_S, KeyedQueue, QueueClosed
from diffusion_operator.reconcile.story import Outcome, Outdated, Reconciler

logger = logging.getLogger(__name__)

RECONCILE_DEADLINE_S = 300.0
RESYNC_S = 600.0
RESYNC_RETRY_S = 5.0
# These are no fault of the key: whoever mends the cause wants to see it work soon.
NOT_THE_KEY_S = (Forbidden, NotFound, Unauthorized, Unreachable)
NOT_THE_KEY_S_LONGEST_DELAY_S = 30.0


async def work(queue: KeyedQueue[Key], reconciler: Reconciler, metrics: Metrics) -> None:
    """Serve the queue until it is closed."""
    while True:
        try:
            key = await queue.get()
        except QueueClosed:
            return
        try:
            await _serve(key, queue, reconciler, metrics)
        finally:
            queue.done(key)
        # Where nothing is to be written a reconcile may never wait, and then nor would a thousand in a row.
        await asyncio.sleep(0)


async def _serve(key: Key, queue: KeyedQueue[Key], reconciler: Reconciler, metrics: Metrics) -> None:
    if isinstance(key, CapacityKey):
        for waiting in sorted(reconciler.waiting):
            queue.add(waiting)
        return
    started_s = time.monotonic()
    with reconciling(key):
        outcome, result = await _attempt(key, queue, reconciler)
    metrics.duration_seconds.observe(time.monotonic() - started_s)
    metrics.reconciles.labels(result).inc()
    if outcome is None:
        return
    metrics.plans.labels(outcome.plan, outcome.reason).inc()
    if outcome.seen is None:
        metrics.forget_deployment(key)
    else:
        metrics.observe_deployment(key, outcome.seen)
    queue.forget(key)
    if outcome.recheck_after_s is not None:
        queue.add_after(key, outcome.recheck_after_s)


async def _attempt(
    key: DeploymentKey, queue: KeyedQueue[Key], reconciler: Reconciler
) -> tuple[Outcome | None, str]:
    """One reconcile; a failure is logged and queued again."""
    try:
        async with asyncio.timeout(RECONCILE_DEADLINE_S):
            return await reconciler.reconcile(key), "done"
    except LeaseLost:
        raise
    except (ApiError, ChildLeaving, Outdated) as error:
        at_least_s = (error.retry_after_s or 0.0) if isinstance(error, ApiError) else 0.0
        at_most_s = NOT_THE_KEY_S_LONGEST_DELAY_S if isinstance(error, NOT_THE_KEY_S) else LONGEST_DELAY_S
        delay_s = queue.add_failed(key, at_least_s=at_least_s, at_most_s=at_most_s)
        logger.warning("%s: %s; again in %.1f s", key, error, delay_s)
        return None, "apiError"
    except TimeoutError:
        delay_s = queue.add_failed(key)
        logger.warning("%s: not done after %.0f s; again in %.1f s", key, RECONCILE_DEADLINE_S, delay_s)
        return None, "timeout"
    except Exception:
        delay_s = queue.add_failed(key)
        logger.exception("%s: bug in the operator, please report it; again in %.1f s", key, delay_s)
        return None, "bug"


async def resync(
    client: KubeClient,
    mirror: Mirror,
    queue: KeyedQueue[Key],
    namespaces: Sequence[str],
    first_done: asyncio.Event,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """List everything and queue every DiffusionDeployment, at once and then about every 10 minutes.

    At once, because a new leader must not decide before it has read what the last one wrote; later, because
    it heals what a watch lost. A failing list is tried again. Raises StoreWentBack.
    """
    while True:
        try:
            await mirror.refresh(client)
        except ApiError as error:
            hint = ": is its custom resource definition installed?" if isinstance(error, NotFound) else ""
            logger.warning("cannot list: %s%s; again in %.0f s", error, hint, RESYNC_RETRY_S)
            await sleep(RESYNC_RETRY_S)
            continue
        for (namespace, name), _ in mirror.entries(DIFFUSION_DEPLOYMENTS):
            if not namespaces or namespace in namespaces:
                queue.add(DeploymentKey(namespace, name))
        first_done.set()
        await sleep(RESYNC_S * random.uniform(0.9, 1.1))  # noqa: S311 jitter, no secret
