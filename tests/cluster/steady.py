"""Draws without pause through a Service, from inside the node: like real clients, it needs no API server."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster.outages import in_node
from cluster.room import Room

DEADLINE_SECONDS = 60
RETRYABLE = ("429", "503")
NEVER_ACCEPTED, LOST = "7", ("18", "52", "56")  # exit codes of curl
LOOP = """
while [ ! -e {stop} ]; do
  curl -s -o /dev/null -m {deadline} \\
    -w '%{{http_code}} %{{exitcode}} %{{time_total}} %header{{retry-after}} %header{{x-diffusion-plan}}\\n' \\
    -H 'content-type: application/json' -d '{body}' {url} || true
  sleep {pause}
done
"""
BODY = {"model": "demo", "prompt": "a circle", "size": "64x64"}


@dataclass
class Answers:
    """Counts by kind once the drawing has stopped; `longest_s` is the longest that any request took."""

    kinds: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0

    def note(self, code: str, exit_code: str, seconds: float, retry_after: str, plan: str) -> None:
        """An answer without a plan is no engine's: for moments nobody took connections to the Service's
        address, and whatever is behind the node's network did.
        """
        self.longest_s = max(self.longest_s, seconds)
        if code == "200" and exit_code == "0":
            self.kinds["200"] += 1
        elif code in RETRYABLE:
            self.kinds["retryable" if retry_after else f"{code} without Retry-After"] += 1
        elif exit_code == NEVER_ACCEPTED or (exit_code == "0" and not plan):
            self.kinds["not accepted"] += 1
        elif exit_code in LOST:
            self.kinds["connection lost"] += 1
        else:
            self.kinds[f"code {code}, curl {exit_code}"] += 1

    @property
    def failed(self) -> int:
        """All that were not answered with a picture."""
        return self.kinds.total() - self.kinds["200"]

    def others(self, *allowed: str) -> dict[str, int]:
        """Counts of all kinds but these and 200."""
        return {kind: count for kind, count in self.kinds.items() if kind not in ("200", *allowed)}


@contextmanager
def drawing(room: Room, name: str, at_once: int = 2, pause_s: float = 0.05) -> Iterator[Answers]:
    """So many clients draw until the block ends; then the answers are counted.

    A client pauses after each answer: a long pause leaves the machine to engines that start.
    """
    service = json.loads(room.kubectl("get", "service", name, "-o", "json"))
    url = f"http://{service['spec']['clusterIP']}/v1/images/generations"
    stop = f"/tmp/stop-drawing-{room.namespace}-{name}"
    in_node(room.cluster, f"rm -f {stop}")
    body = json.dumps(BODY)
    script = LOOP.format(stop=stop, deadline=DEADLINE_SECONDS, pause=pause_s, body=body, url=url)
    provider, node = room.cluster.provider, room.cluster.folder.node
    command = [provider.name, "exec", node, "bash", "-c", script]
    clients = [
        subprocess.Popen(command, env={**os.environ, **provider.env}, stdout=subprocess.PIPE, text=True)
        for _ in range(at_once)
    ]
    answers = Answers()
    try:
        yield answers
    finally:
        in_node(room.cluster, f"touch {stop}")
        for client in clients:
            text, _ = client.communicate(timeout=DEADLINE_SECONDS + 30)
            for line in text.splitlines():
                code, exit_code, seconds, retry_after, plan = line.split(" ")
                answers.note(code, exit_code, float(seconds), retry_after, plan)
