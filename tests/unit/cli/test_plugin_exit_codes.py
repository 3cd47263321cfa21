"""The plugin as a program: what it prints where, and how it ends. A script stands in for kubectl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffusion_operator.cli.main import main
from unit.cli.dds import DEMO, deployment, qwen_plan, ready_conditions

SCRIPT = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *"get diffusiondeployments"*) cat {answer} ;;
  *) echo "the connection was refused" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that knows one ready deployment and nothing else; returns the log of its arguments."""
    answer, log, script = tmp_path / "answer.json", tmp_path / "log", tmp_path / "kubectl"
    answer.write_text(
        json.dumps(deployment(conditions=ready_conditions(), plan=qwen_plan(), readyReplicas=2))
    )
    script.write_text(SCRIPT.format(log=log, answer=answer))
    script.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(script))
    return log


def test_explain_prints_and_ends_with_zero(kubectl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "qwen", "-n", "pictures", "--context", "prod"]) == 0
    printed = capsys.readouterr()
    assert "Qwen/Qwen-Image on 2 × NVIDIA-H200" in printed.out
    assert "\x1b" not in printed.out
    assert printed.err == ""
    assert kubectl.read_text().startswith(
        "--context prod get diffusiondeployments.diffusion-operator.io qwen"
    )


@pytest.mark.usefixtures("kubectl")
def test_a_cluster_that_refuses_ends_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "dd.yaml"
    manifest.write_text(DEMO)
    assert main(["plan", "-f", str(manifest)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: kubectl could not read the cluster: the connection was refused\n"


def test_a_missing_kubectl_ends_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECTL", "/nowhere/kubectl")
    assert main(["explain", "qwen"]) == 1
    assert "/nowhere/kubectl was not found" in capsys.readouterr().err


@pytest.mark.usefixtures("kubectl")
@pytest.mark.parametrize("arguments", [["promises"], ["capacity"], ["history", "qwen"]])
def test_what_cannot_be_read_ends_with_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert "the connection was refused" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["explain"], ["plan"], ["history"], ["forget", "qwen"]])
def test_a_wrong_command_line_ends_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: kubectl diffusion" in capsys.readouterr().err
