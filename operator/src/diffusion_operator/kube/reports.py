"""Asks an engine what it really runs (`GET http://<podIP>:9000/v1/report`), and a fetch how far it is.

Short and without retries: the pod's readiness says whether it serves, this only says what. It never decides.
"""

from __future__ import annotations

from typing import Annotated, Protocol, TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from diffusion_runtime.planning.documents import EngineReport

MANAGEMENT_PORT = 9000
REPORT_TIMEOUT_S = 3.0
LARGEST_REPORT_BYTES = 1 << 20
Document = TypeVar("Document", bound=BaseModel)


class ReportUnavailable(Exception):
    """The engine gave no report that we can read; the sentence says why."""


class ReportReader(Protocol):
    """Where a report comes from."""

    async def read(self, pod_ip: str) -> EngineReport:
        """The engine's current report. Raises ReportUnavailable."""
        ...

    async def progress(self, pod_ip: str) -> FetchProgress:
        """How far a fetch is. Raises ReportUnavailable."""
        ...


class FetchProgress(BaseModel):
    """Answer of `/v1/progress`; what a later version adds is passed over."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    bytes_done: Annotated[int, Field(ge=0)]
    bytes_total: Annotated[int, Field(ge=0)]


class HttpReportReader:
    """Reads reports over HTTP with one shared session."""

    def __init__(self, *, port: int = MANAGEMENT_PORT, timeout_s: float = REPORT_TIMEOUT_S) -> None:
        self._port = port
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def read(self, pod_ip: str) -> EngineReport:
        return await self._ask(pod_ip, "/v1/report", EngineReport)

    async def progress(self, pod_ip: str) -> FetchProgress:
        return await self._ask(pod_ip, "/v1/progress", FetchProgress)

    async def _ask(self, pod_ip: str, path: str, kind: type[Document]) -> Document:
        host = f"[{pod_ip}]" if ":" in pod_ip else pod_ip
        url = f"http://{host}:{self._port}{path}"
        if self._session is None:
            # No proxy from the environment: pod addresses are never behind one.
            self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        try:
            async with self._session.get(url) as answer:
                if answer.status != 200:
                    raise ReportUnavailable(f"{url} answered {answer.status}")
                body = await _whole(answer.content, url)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ReportUnavailable(f"{url}: {type(error).__name__}: {error}") from error
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in problem["loc"]) or "body"
            raise ReportUnavailable(
                f"{url}: not a report this operator knows: {place}: {problem['msg']}"
            ) from error

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _whole(content: aiohttp.StreamReader, url: str) -> bytes:
    """All of the body: one read gives only what has arrived so far, the first packet of a long report."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > LARGEST_REPORT_BYTES:
            raise ReportUnavailable(f"{url}: the answer is longer than {LARGEST_REPORT_BYTES} bytes")
    return bytes(body)
