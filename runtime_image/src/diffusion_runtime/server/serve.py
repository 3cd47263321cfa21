"""`diffusion-runtime serve`: two HTTP servers and one engine in one event loop, from start to SIGTERM.

Torch-free for its whole life. Exit codes: 0 drained, 1 the engine failed, 2 the plan or the model was
refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from diffusion_runtime.generation.messages import RankFailure
from diffusion_runtime.loading.executable import read_plan
from diffusion_runtime.loading.refusal import EngineRefusal

from .api import build_api
from .api_key import take_api_key
from .engine import Engine
from .limits import Limits
from .management import build_management
from .start import prepare
from .termination import (
    DEFAULT_PATH,
    EXIT_FAILED,
    EXIT_REFUSED,
    EngineEnded,
    unforeseen,
    write_termination_message,
)
from .videos import Videos

logger = logging.getLogger(__name__)
MAX_PORT = 65535
FIRST_REQUEST_S = 1.0
"""At the end, for the request of a client that is connected: a Service sends clients until the very last."""


@dataclass(frozen=True)
class ServeOptions:
    """What the command line says."""

    plan: Path
    host: str
    port: int
    management_port: int
    termination_log: Path = DEFAULT_PATH
    limits: Limits = field(default_factory=Limits)
    last_answers_s: int | None = None


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: a drain is more than closing sockets, and `serve` does it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close, but first answer who has connected and whose request is still on its way."""
        for server in self.servers:
            server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_REQUEST_S):
                # uvicorn tells nobody when a connection gets its first request
                while any(getattr(one, "cycle", True) is None for one in self.server_state.connections):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def run_server(options: ServeOptions) -> int:
    """Serve until SIGTERM or failure; writes the termination message unless all went well."""
    try:
        asyncio.run(_serve(options))
    except EngineRefusal as refusal:
        failure = RankFailure(
            reason=refusal.reason,
            message=refusal.message,
            phase="start",
            bytes_asked=refusal.bytes_asked,
            bytes_free=refusal.bytes_free,
            final=True,
        )
        return _end(options, EXIT_REFUSED, failure)
    except EngineEnded as ended:
        return _end(options, ended.exit_code, ended.failure)
    except Exception as error:
        logger.exception("bug at the start or the end of the engine")
        return _end(options, EXIT_FAILED, unforeseen(error, "start"))
    return 0


async def _serve(options: ServeOptions) -> None:
    key = take_api_key(os.environ)
    prepared = prepare(read_plan(options.plan), options.limits)
    engine = prepared.engine
    api_socket = _listen("--port", options.host, options.port)
    management_socket = _listen("--management-port", options.host, options.management_port)
    _announce(api_socket, management_socket)
    # A client that never ends its body or never reads its answer must not keep an ended engine alive.
    last_answers_s = options.last_answers_s or max(1, int(options.limits.last_answers_s))
    videos = Videos(prepared.videos) if prepared.videos else None
    api = _server(build_api(engine, prepared.rules, videos, key), last_answers_s)
    management = _server(build_management(engine), last_answers_s)
    servers = [
        asyncio.create_task(api.serve(sockets=[api_socket])),
        asyncio.create_task(management.serve(sockets=[management_socket])),
    ]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _drain, engine, videos)
    try:
        await engine.run()
        # Clips that were finished while draining are worth nothing unless they are fetched.
        if videos is not None:
            await videos.all_collected(last_answers_s / 2)
    finally:
        # The answers of the last requests are still on their way: uvicorn lets them finish, then closes.
        api.should_exit = True
        await servers[0]
        management.should_exit = True
        await servers[1]
        if videos is not None:
            videos.close()


def _drain(engine: Engine, videos: Videos | None) -> None:
    engine.drain()
    if videos is not None:
        videos.drain()


def _server(app: Starlette, last_answers_s: int) -> _Server:
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=last_answers_s,
    )
    return _Server(config)


def _listen(flag: str, host: str, port: int) -> socket.socket:
    if not 0 <= port <= MAX_PORT:
        raise EngineRefusal("InvalidSpec", f"{flag} {port} is no port; it must be 0 to {MAX_PORT}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        message = f"{flag} {port} on {host} cannot be opened: {error.strerror}."
        raise EngineRefusal("InvalidSpec", message) from error


def _announce(api: socket.socket, management: socket.socket) -> None:
    """One JSON line on stdout, for scripts that asked for a free port with 0."""
    ports = {"apiPort": api.getsockname()[1], "managementPort": management.getsockname()[1]}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()


def _end(options: ServeOptions, code: int, failure: RankFailure) -> int:
    write_termination_message(options.termination_log, failure)
    sys.stderr.write(f"{failure.reason}: {failure.message}\n")
    return code
