"""Whatever ends an engine, its clients get an answer, its container last words, and it does end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from diffusion_operator.render.container import STARTUP_LIMIT_S
from diffusion_runtime.cli import build_parser
from diffusion_runtime.planning.documents import Execution
from diffusion_runtime.server import serve
from diffusion_runtime.server.engine import Engine
from diffusion_runtime.server.image_request import rules_of
from diffusion_runtime.server.limits import Limits
from diffusion_runtime.server.metrics import EngineMetrics
from diffusion_runtime.server.rank_group import RankGroup
from diffusion_runtime.server.start import PreparedEngine
from diffusion_runtime.server.termination import EngineEnded
from engine.fake_group import QUICK, REQUEST, fake_engine
from engine.plans import QWEN_IMAGE, cpu_execution, plan_for

PLAN = plan_for(cpu_execution())


async def test_system_that_refuses_a_group_ends_the_engine_with_an_answer_to_all() -> None:
    def no_room(_: Execution) -> RankGroup:
        raise OSError("No space left on device")

    engine = Engine(PLAN, no_room, QUICK, EngineMetrics(), lambda: 0.0)
    job = engine.submit([REQUEST])
    with pytest.raises(EngineEnded) as ended:
        await engine.run()
    assert (ended.value.exit_code, ended.value.failure.reason) == (1, "CrashLoop")
    assert "No space left on device" in ended.value.failure.message
    assert engine.report.state == "failed"
    with pytest.raises(EngineEnded):
        await job.result


async def test_bug_while_drawing_answers_the_running_and_the_waiting_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(*_: Any) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(RankGroup, "draw", bug)
    engine = fake_engine(tmp_path, PLAN, [{}])
    running, waiting = engine.submit([REQUEST]), engine.submit([REQUEST])
    with pytest.raises(EngineEnded):
        await engine.run()
    with pytest.raises(KeyError):
        await running.result
    with pytest.raises(EngineEnded):
        await waiting.result


def options(folder: Path, **more: Any) -> serve.ServeOptions:
    (folder / "plan.json").write_text(PLAN.to_json())
    last_words = folder / "termination.json"
    return serve.ServeOptions(folder / "plan.json", "127.0.0.1", 0, 0, last_words, **more)


def test_bug_at_the_start_leaves_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(serve, "prepare", bug)
    assert serve.run_server(options(tmp_path)) == 1
    last_words = json.loads((tmp_path / "termination.json").read_text())
    assert last_words["reason"] == "CrashLoop"
    assert "KeyError: 'bug'" in last_words["message"]


def test_port_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    wrong = serve.ServeOptions(options(tmp_path).plan, "127.0.0.1", 70_000, 0, tmp_path / "termination.json")
    assert serve.run_server(wrong) == 2
    assert "--port 70000" in json.loads((tmp_path / "termination.json").read_text())["message"]


async def test_client_that_never_ends_its_body_does_not_keep_a_failed_engine_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = fake_engine(tmp_path, PLAN, [{"draw": "refuse"}])
    prepared = PreparedEngine(engine, rules_of(PLAN, 16, QWEN_IMAGE), None, cast(Any, None))
    monkeypatch.setattr(serve, "prepare", lambda *_: prepared)
    serving = asyncio.create_task(serve._serve(options(tmp_path, last_answers_s=1)))
    announced = ""
    while not announced:
        await asyncio.sleep(0)
        announced = capsys.readouterr().out
    reader, writer = await asyncio.open_connection("127.0.0.1", json.loads(announced)["apiPort"])
    writer.write(b"POST /v1/images/generations HTTP/1.1\r\nHost: e\r\nContent-Length: 9\r\n")
    writer.write(b"Expect: 100-continue\r\n\r\n")
    assert b"100" in await reader.readline(), "the handler must wait for the body, else this proves nothing"
    job = engine.submit([REQUEST])
    with pytest.raises(EngineEnded):
        await serving
    assert job.result.exception() is not None
    writer.close()


def test_sigterm_before_the_event_loop_ends_at_once(tmp_path: Path) -> None:
    """PID 1 of a container loses it without a handler; here the exit code tells that there is one."""
    plan = tmp_path / "plan.json"
    os.mkfifo(plan)
    command = [sys.executable, "-m", "diffusion_runtime.cli", "serve", "--plan", str(plan)]
    with subprocess.Popen(command) as process, plan.open("wb"):  # opens when the other side reads
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_slow_start_is_told_before_the_startup_probe_kills() -> None:
    assert Limits().start_s < STARTUP_LIMIT_S
    assert build_parser("serve").parse_args(["serve", "--plan", "p"]).start_seconds == Limits().start_s
