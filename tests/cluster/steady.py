"""Draws without pause through a Service, from inside the node: like real clients, it needs no API server."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster.outages import in_node
from cluster.room import Room

DEADLINE_SECONDS = 60
CONNECT_SECONDS = 10
RETRYABLE = ("429", "503")
REFUSED, TIMED_OUT, LOST = "7", "28", ("18", "52", "56")  # exit codes of curl
LOOP = """
while [ ! -e {stop} ]; do
  curl -s -o /dev/null --connect-timeout {connect} -m {deadline} \\
    -w '%{{http_code}} %{{exitcode}} %{{time_connect}} %{{time_total}} '\\
'%header{{retry-after}} %header{{x-diffusion-plan}}\\n' \\
    -H 'content-type: application/json' -d '{body}' {url} || true
  sleep {pause}
done
"""
BODY = {"model": "demo", "prompt": "a circle", "size": "64x64"}


@dataclass
class Answers:
    """Counts by kind, as they come; `longest_s` is the longest that any request took."""

    kinds: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    _came: threading.Condition = field(default_factory=threading.Condition)

    def follow(self, client: subprocess.Popen[str]) -> None:
        """Count what a client prints, until it ends."""
        assert client.stdout is not None
        with client.stdout as lines:
            for line in lines:
                code, exit_code, connected, seconds, retry_after, plan = line.rstrip("\n").split(" ")
                with self._came:
                    self.note(code, exit_code, float(connected), float(seconds), retry_after, plan)
                    self._came.notify_all()

    def await_pictures(self, more: int) -> None:
        """Return once so many more pictures have come."""
        with self._came:
            wanted = self.kinds["200"] + more
            came = self._came.wait_for(lambda: self.kinds["200"] >= wanted, DEADLINE_SECONDS)
        assert came, f"{more} pictures never came: {self}"

    def note(
        self, code: str, exit_code: str, connected_s: float, seconds: float, retry_after: str, plan: str
    ) -> None:
        """An answer without a plan is no engine's: for moments nobody took connections to the Service's
        address, and whatever is behind the node's network did.
        """
        self.longest_s = max(self.longest_s, seconds)
        never_connected = exit_code == REFUSED or (exit_code == TIMED_OUT and not connected_s)
        if code == "200" and exit_code == "0":
            self.kinds["200"] += 1
        elif code in RETRYABLE:
            self.kinds["retryable" if retry_after else f"{code} without Retry-After"] += 1
        elif never_connected or (exit_code == "0" and not plan):
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
    """So many clients draw until the block ends; then all answers have been counted.

    A client pauses after each answer: a long pause leaves the machine to engines that start.
    """
    service = json.loads(room.kubectl("get", "service", name, "-o", "json"))
    url = f"http://{service['spec']['clusterIP']}/v1/images/generations"
    stop = f"/tmp/stop-drawing-{room.namespace}-{name}"
    in_node(room.cluster, f"rm -f {stop}")
    body = json.dumps(BODY)
    script = LOOP.format(
        stop=stop, connect=CONNECT_SECONDS, deadline=DEADLINE_SECONDS, pause=pause_s, body=body, url=url
    )
    provider, node = room.cluster.provider, room.cluster.folder.node
    command = [provider.name, "exec", node, "bash", "-c", script]
    clients = [
        subprocess.Popen(command, env={**os.environ, **provider.env}, stdout=subprocess.PIPE, text=True)
        for _ in range(at_once)
    ]
    answers = Answers()
    readers = [threading.Thread(target=answers.follow, args=(client,)) for client in clients]
    for reader in readers:
        reader.start()
    try:
        yield answers
    finally:
        in_node(room.cluster, f"touch {stop}")
        for client, reader in zip(clients, readers, strict=True):
            client.wait(DEADLINE_SECONDS + 30)
            reader.join()
