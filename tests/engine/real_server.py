"""A real `diffusion-runtime serve` process with real ranks, for the tests that must see the whole path."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from diffusion_runtime.planning.documents import Plan

START_SECONDS = 240.0


class RealServer:
    """URLs and process ids of one running engine."""

    def __init__(self, process: subprocess.Popen[bytes], ports: dict[str, int], folder: Path) -> None:
        self.process = process
        self.api = f"http://127.0.0.1:{ports['apiPort']}"
        self.management = f"http://127.0.0.1:{ports['managementPort']}"
        self.termination_log = folder / "termination.json"

    def report(self) -> dict[str, Any]:
        """The engine's report."""
        document: dict[str, Any] = httpx.get(f"{self.management}/v1/report").json()
        return document

    def ready(self) -> bool:
        """Whether /readyz is green."""
        return httpx.get(f"{self.management}/readyz").status_code == 200

    def running(self) -> bool:
        """Whether a request is being drawn now."""
        return "diffusion_engine_requests_running 1.0" in httpx.get(f"{self.management}/metrics").text

    def post(self, **fields: Any) -> httpx.Response:
        """The images call."""
        return httpx.post(f"{self.api}/v1/images/generations", json=fields, timeout=START_SECONDS)

    def rank_ids(self) -> list[int]:
        """Process ids of the ranks: the parent's only children, in order of starting."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition of the outside world, or for the server's end."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.1)


@contextlib.contextmanager
def serving(plan: Plan, folder: Path, *flags: str) -> Iterator[RealServer]:
    """Start, wait until ready, and end whatever is left at the end."""
    (folder / "plan.json").write_text(plan.to_json())
    command = [sys.executable, "-m", "diffusion_runtime.cli", "serve", "--plan", str(folder / "plan.json")]
    command += ["--host", "127.0.0.1", "--port", "0", "--management-port", "0", "--drain-grace-seconds", "0"]
    command += ["--termination-log", str(folder / "termination.json"), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None
        server = None
        try:
            server = RealServer(process, json.loads(process.stdout.readline()), folder)
            server.until(server.ready)
            yield server
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def pixels(answer: httpx.Response, index: int = 0) -> np.ndarray[Any, Any]:
    """The picture of an answer as integers (height, width, 3)."""
    assert answer.status_code == 200, answer.text
    return decode(base64.b64decode(answer.json()["data"][index]["b64_json"]))


def decode(body: bytes) -> np.ndarray[Any, Any]:
    """A picture file as integers (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int)
