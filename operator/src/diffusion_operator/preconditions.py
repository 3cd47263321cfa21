"""What must be there before the operator can work: its rights, and the definition of its kind.

Both can be taken away and given back while a cluster lives. The process waits for them and says what is
missing, in its log and through /readyz: an exit would only make the next start later. It mends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from diffusion_operator.kube.errors import ApiError
from diffusion_operator.kube.resources import (
    DIFFUSION_DEPLOYMENTS,
    REQUIRED_ACCESS,
    REQUIRED_OWN_ACCESS,
    Resource,
)
from diffusion_operator.kube.rest import RestKubeClient

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 5.0


class Preconditions:
    """Ask, and ask again until nothing is missing; `problem` says what is, None once all is there."""

    def __init__(
        self,
        client: RestKubeClient,
        own_namespace: str | None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._own_namespace = own_namespace
        self._sleep = sleep
        self.problem: str | None = "the permissions have not been looked at yet"

    async def wait(self) -> None:
        """Return once everything is there."""
        while True:
            self.problem = await self._look()
            if self.problem is None:
                return
            logger.error("cannot work yet: %s; looked at again in %.0f s", self.problem, LOOK_AGAIN_S)
            await self._sleep(LOOK_AGAIN_S)

    async def _look(self) -> str | None:
        try:
            missing = await self._missing_rights()
            if missing:
                return f"its role does not allow: {', '.join(missing)}"
            known = await self._client.serves(DIFFUSION_DEPLOYMENTS)
        except ApiError as error:
            return f"the API server did not answer the permission check: {error}"
        plural, group = DIFFUSION_DEPLOYMENTS.plural, DIFFUSION_DEPLOYMENTS.group
        return None if known else f"the custom resource definition {plural}.{group} is not installed"

    async def _missing_rights(self) -> list[str]:
        """Every verb the operator needs and may not use, so that one sentence names them all."""
        asked: list[tuple[str, Resource, str | None, str | None]] = [
            (verb, resource, subresource, None)
            for resource, subresource, verbs in REQUIRED_ACCESS
            for verb in verbs
        ]
        asked += [
            (verb, resource, subresource, self._own_namespace)
            for resource, subresource, verbs in REQUIRED_OWN_ACCESS
            for verb in verbs
            if self._own_namespace is not None
        ]
        answers = await asyncio.gather(
            *(
                self._client.allowed(verb, resource, namespace=namespace, subresource=subresource)
                for verb, resource, subresource, namespace in asked
            )
        )
        missing = [
            f"{verb} {resource.plural}{f'/{subresource}' if subresource else ''}"
            for (verb, resource, subresource, _), allowed in zip(asked, answers, strict=True)
            if not allowed
        ]
        return list(dict.fromkeys(missing))
