"""A rank killed by hand: its request fails with a retryable error, the next one is answered, the container
stays.
"""

from __future__ import annotations

import re
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

import openai

from cluster.conftest import SERVED
from cluster.room import Room
from localcluster.portforward import forwarded

RANK_MODULE = "diffusion_runtime.generation.rank"
SIGNAL_RANKS = """
import os, pathlib, signal, sys
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if b"{module}" in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
        os.kill(int(process.name), signal.{signal}); print(process.name)
"""


def _signal_ranks(room: Room, pod: str, signal: str) -> list[str]:
    # The searching process names the module in its own command line; hence the split of the word.
    program = SIGNAL_RANKS.replace("{signal}", signal).replace(
        'b"{module}"', f'b"{RANK_MODULE[:9]}" b"{RANK_MODULE[9:]}"'
    )
    return room.kubectl("exec", pod, "-c", "engine", "--", "python3", "-c", program).split()


def _queue_length(management: str) -> float:
    with urllib.request.urlopen(f"{management}/metrics", timeout=10) as answer:
        match = re.search(r"^diffusion_engine_queue_length (\S+)$", answer.read().decode(), re.MULTILINE)
    assert match is not None
    return float(match.group(1))


def _draw(client: openai.OpenAI) -> int:
    """HTTP status of one request."""
    try:
        client.images.generate(model="demo", prompt="a blue square", size="128x128")
    except openai.APIStatusError as refused:
        return refused.status_code
    return 200


def test_request_fails_retryably_and_the_next_is_answered(served: Room) -> None:
    (pod,) = served.pods(SERVED)
    name = pod["metadata"]["name"]
    with (
        forwarded(served.cluster, f"pod/{name}", 9000, served.namespace) as management,
        served.client(SERVED) as client,
        ThreadPoolExecutor(max_workers=2) as threads,
    ):
        # A stopped rank holds the first request in flight; the second one waits behind it in the queue.
        assert _signal_ranks(served, name, "SIGSTOP")
        requests: list[Future[int]] = [threads.submit(_draw, client) for _ in range(2)]
        while _queue_length(management) < 1:
            assert not any(request.done() for request in requests)
        assert _signal_ranks(served, name, "SIGKILL")
        statuses = sorted(request.result() for request in as_completed(requests, timeout=120))
        assert statuses == [200, 503]
        assert _draw(client) == 200
    (after,) = served.pods(SERVED)
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert [status["restartCount"] for status in after["status"]["containerStatuses"]] == [0]
