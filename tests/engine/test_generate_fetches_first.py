"""`generate` and `bench` bring the model here first, unless --offline."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.model_folder import write_pipeline
from diffusion_runtime import cli
from diffusion_runtime.commands.local_model import add_fetch_flags, local_model
from diffusion_runtime.planning.errors import BadRequest
from engine.loopback_hub import COMMIT, Fault, Loopback, serving
from engine.plans import DEMO


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    folder = write_pipeline(tmp_path / "published")
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setenv("DIFFUSION_MODEL_CACHE", str(tmp_path / "cache"))
    with serving(Loopback(files)) as loopback:
        monkeypatch.setenv("HF_ENDPOINT", loopback.url)
        yield loopback


def found(*flags: str) -> str:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-path")
    add_fetch_flags(parser)
    return local_model(parser.parse_args(flags))


def test_fetched_once_and_used_offline(hub: Loopback) -> None:
    folder = found("--model-path", "tiny/qwen")
    assert (Path(folder) / "model_index.json").is_file()
    hub.asked.clear()
    assert found("--model-path", "tiny/qwen", "--offline") == folder
    assert not hub.asked


def test_a_commit_needs_no_second_look(hub: Loopback) -> None:
    folder = found("--model-path", "tiny/qwen", "--revision", COMMIT)
    hub.asked.clear()
    assert found("--model-path", "tiny/qwen", "--revision", COMMIT) == folder
    assert not hub.asked


def test_offline_without_a_fetched_model(hub: Loopback) -> None:
    with pytest.raises(BadRequest, match="--offline is set and tiny/qwen was not fetched to"):
        found("--model-path", "tiny/qwen", "--offline")
    assert not hub.asked


def test_what_is_here_is_not_fetched(hub: Loopback) -> None:
    assert found("--model-path", "demo") == "demo"
    assert found("--model-path", str(DEMO)) == str(DEMO)
    assert not hub.asked


@pytest.mark.parametrize("command", ["generate", "bench"])
def test_commands_say_why_there_is_no_model(
    command: str, hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults["api"].append(Fault(418))
    output = tmp_path / ("a.png" if command == "generate" else "folder")
    flags = ["--model-path", "tiny/qwen", "--device", "cpu", "--output", str(output), "--prompt", "a"]
    assert cli.main([command, *flags]) == 1
    assert "tiny/qwen could not be read from http://127.0.0.1" in capsys.readouterr().err
    assert cli.main([command, *flags, "--offline"]) == 2
    assert "--offline is set" in capsys.readouterr().err
