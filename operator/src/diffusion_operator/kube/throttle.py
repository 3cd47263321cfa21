"""A token bucket before every request, because kopf and the client library have none.

Fair in order of arrival; holds a place in line and never drops a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class TokenBucket:
    """At most `burst` requests at once and `rate_per_s` in the long run."""

    def __init__(
        self,
        rate_per_s: float,
        burst: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if rate_per_s <= 0 or burst < 1:
            raise ValueError(
                f"rate {rate_per_s}/s with burst {burst} lets nothing through; use a positive rate"
            )
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._monotonic = monotonic
        self._sleep = sleep
        self._tokens = float(burst)
        self._updated_s = monotonic()

    async def take(self) -> None:
        """Wait for one token. The token is taken before the wait, so later callers queue behind."""
        now_s = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (now_s - self._updated_s) * self._rate_per_s)
        self._updated_s = now_s
        self._tokens -= 1
        if self._tokens < 0:
            await self._sleep(-self._tokens / self._rate_per_s)
