"""A fetch answers how far it is on the port that its environment names, and only then."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

import pytest

from diffusion_runtime.commands.fetch_progress import VARIABLE, served


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(port: int, path: str = "/v1/progress") -> object:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.load(answer)


def test_it_answers_with_the_last_numbers() -> None:
    port = free_port()
    with served({VARIABLE: str(port)}, "127.0.0.1") as progress:
        assert asked(port) == {"bytesDone": 0, "bytesTotal": 0}
        progress.report(3, 9)
        assert asked(port) == {"bytesDone": 3, "bytesTotal": 9}
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            asked(port, "/etc/passwd")
        refused.value.close()
    with pytest.raises(urllib.error.URLError):
        asked(port)


def test_without_the_variable_nothing_listens() -> None:
    with served({}) as progress:
        progress.report(1, 2)
        assert json.loads(progress.document()) == {"bytesDone": 1, "bytesTotal": 2}


def test_a_port_that_is_taken_does_not_stop_the_fetch(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with served({VARIABLE: str(port)}, "127.0.0.1") as progress:
            progress.report(1, 2)
    assert f"port {port}" in capsys.readouterr().err
