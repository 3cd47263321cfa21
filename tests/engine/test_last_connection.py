"""A server that ends answers a client that connected before, though its request comes after."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from diffusion_runtime.server import serve
from engine.fake_group import until

REQUEST = b"GET / HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer(_: Request) -> PlainTextResponse:
    return PlainTextResponse("answered")


@asynccontextmanager
async def ending() -> AsyncIterator[tuple[int, asyncio.Task[None], Client]]:
    """A server that was told to end while a client is connected: its port, its end, the client."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = serve._server(Starlette(routes=[Route("/", answer)]), 5)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    client = await asyncio.open_connection("127.0.0.1", port)
    await until(lambda: len(server.server_state.connections) == 1)
    server.should_exit = True
    try:
        yield port, task, client
    finally:
        client[1].close()
        await task


async def test_a_request_on_its_way_is_answered_and_a_new_connection_refused() -> None:
    async with ending() as (port, _, (reader, writer)):
        async with asyncio.timeout(5):
            while True:
                try:
                    _, late = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    break
                late.close()
                await asyncio.sleep(0.01)
            writer.write(REQUEST)
            assert (await reader.read()).endswith(b"answered")


async def test_who_never_asks_keeps_nobody() -> None:
    async with ending() as (_, task, _), asyncio.timeout(5):
        await task
