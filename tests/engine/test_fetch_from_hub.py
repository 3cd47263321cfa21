"""Fetching from a hub: pinned, only what is needed, resumed, verified, one writer, faults in plain words."""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.model_folder import write_pipeline
from diffusion_runtime import cli
from diffusion_runtime.commands import fetch as fetch_command
from diffusion_runtime.models.catalog import facts_from_folder
from engine.loopback_hub import COMMIT, Fault, Loopback, serving

SHARD = "transformer/a.safetensors"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long somebody would have slept."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    folder = write_pipeline(tmp_path / "published")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    extra = {
        "README.md": b"words", "transformer/pytorch_model.bin": b"pickle", "transformer/code.py": b"exit()",
        "qwen-one-file.safetensors": b"x" * 100, "vae/diffusion_pytorch_model.fp16.safetensors": b"",
        ".gitattributes": b"", "text_encoder/model.onnx": b"o",
    }  # fmt: skip
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    extra["vae/diffusion_pytorch_model.fp16.safetensors"] = found["vae/diffusion_pytorch_model.safetensors"]
    return found | extra


@pytest.fixture
def hub(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with serving(Loopback(files)) as loopback:
        monkeypatch.setenv("HF_ENDPOINT", loopback.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield loopback


class Run:
    """One run of the command: exit code, JSON lines, termination message."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path, *flags: str) -> None:
        log = folder.parent / "termination-log"
        arguments = ["fetch", "--model-path", "tiny/qwen", "--to", str(folder), "--termination-log", str(log)]
        self.code = cli.main([*arguments, *flags])
        printed = capsys.readouterr()
        self.lines = [json.loads(line) for line in printed.out.splitlines()]
        self.error = printed.err
        self.last_words: dict[str, Any] = json.loads(log.read_bytes())


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_what_a_pipeline_is_loaded_from(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, bytes]
) -> None:
    to = tmp_path / "model"
    run = Run(capsys, to)
    assert run.code == 0, run.error
    assert names(to) == {
        ".diffusion-model.json", ".fetch-lock", "model_index.json", "scheduler/scheduler_config.json",
        "text_encoder/config.json", "text_encoder/model.safetensors", "transformer/config.json",
        "transformer/a.safetensors", "transformer/b.safetensors",
        "transformer/diffusion_pytorch_model.safetensors.index.json", "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    for name in names(to) - {".diffusion-model.json", ".fetch-lock"}:
        assert (to / name).read_bytes() == files[name]
    assert facts_from_folder(to).model.family == "qwen-image"
    total = run.lines[-1]["bytes"]
    assert run.lines[-2] == {"event": "progress", "bytesDone": total, "bytesTotal": total}
    assert (run.lines[-1]["event"], run.lines[-1]["commit"]) == ("done", COMMIT)
    assert run.last_words["reason"] == "Fetched"


def test_branch_is_pinned_and_recorded(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.branches["refs/pr/1"] = COMMIT
    assert Run(capsys, tmp_path / "m", "--revision", "refs/pr/1").code == 0
    marker = json.loads((tmp_path / "m" / ".diffusion-model.json").read_text())
    assert (marker["revision"], marker["commit"], marker["name"]) == ("refs/pr/1", COMMIT, "tiny/qwen")
    assert all("/resolve/" not in path or COMMIT in path for _, path, _ in hub.asked)


def test_finished_folder_costs_one_look(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Run(capsys, tmp_path / "m").code == 0
    hub.asked.clear()
    assert Run(capsys, tmp_path / "m").code == 0
    assert [path for _, path, _ in hub.asked] == ["/api/models/tiny/qwen/revision/main"]


def test_folder_of_another_commit_is_never_mixed(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Run(capsys, tmp_path / "m").code == 0
    hub.branches["main"] = "f" * 40
    run = Run(capsys, tmp_path / "m")
    assert (run.code, run.last_words["field"]) == (2, "to")
    assert "is not empty" in run.error


def test_variant_is_written_under_plain_names(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Run(capsys, tmp_path / "m", "--variant", "fp16").code == 0
    assert "vae/diffusion_pytorch_model.safetensors" in names(tmp_path / "m")
    assert hub.gets("vae/diffusion_pytorch_model.fp16.safetensors")
    assert not hub.gets("vae/diffusion_pytorch_model.safetensors")


def test_unknown_variant_names_those_there_are(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(capsys, tmp_path / "m", "--variant", "int4")
    assert (run.code, run.last_words["field"]) == (2, "variant")
    assert "it has: fp16" in run.error


def test_rate_limit_waits_as_long_as_the_hub_says(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_waiting: list[float]
) -> None:
    hub.faults["api"].append(Fault(429, {"Retry-After": "37"}))
    hub.faults[SHARD].append(Fault(429, {"Retry-After": "41"}))
    assert Run(capsys, tmp_path / "m").code == 0
    assert {37, 41} <= {int(seconds) - 1 for seconds in no_waiting}


def test_lasting_rate_limit_ends_in_words(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults["api"].extend([Fault(429, {"Retry-After": "1"})] * 20)
    run = Run(capsys, tmp_path / "m")
    assert (run.code, run.last_words["reason"]) == (1, "RateLimited")
    assert not (tmp_path / "m" / ".diffusion-model.json").exists()


def test_cut_answers_are_resumed_by_range(
    hub: Loopback, tmp_path: Path, capsys: Any, files: dict[str, bytes]
) -> None:
    hub.faults[SHARD].extend([Fault(cut=50), Fault(cut=30)])
    assert Run(capsys, tmp_path / "m").code == 0
    assert (tmp_path / "m" / SHARD).read_bytes() == files[SHARD]
    assert hub.gets(SHARD) == [None, "bytes=50-", "bytes=80-"]


def test_another_process_goes_on_in_the_middle_of_a_file(
    hub: Loopback, tmp_path: Path, capsys: Any, files: dict[str, bytes]
) -> None:
    hub.faults[SHARD].extend([Fault(cut=50), *[Fault(500)] * 6])
    assert Run(capsys, tmp_path / "m").code == 1
    hub.asked.clear()
    assert Run(capsys, tmp_path / "m").code == 0
    assert hub.gets(SHARD) == ["bytes=50-"]
    assert (tmp_path / "m" / SHARD).read_bytes() == files[SHARD]


def test_wrong_hash_is_deleted_and_named_and_the_next_try_goes_on(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, bytes]
) -> None:
    hub.tampered[SHARD] = files[SHARD][:-1] + b"!"
    run = Run(capsys, tmp_path / "m")
    assert (run.code, run.last_words["reason"]) == (1, "WrongHash")
    assert SHARD in run.error
    assert hashlib.sha256(files[SHARD]).hexdigest() in run.error
    assert not any(name.endswith("a.safetensors") for name in names(tmp_path / "m"))
    assert not (tmp_path / "m" / ".diffusion-model.json").exists()
    hub.tampered.clear()
    hub.asked.clear()
    assert Run(capsys, tmp_path / "m").code == 0
    assert (tmp_path / "m" / SHARD).read_bytes() == files[SHARD]


def test_wrong_small_file_is_noticed_too(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, bytes]
) -> None:
    """Git's own hash, for what is not stored as a large file."""
    name = "vae/config.json"
    hub.tampered[name] = files[name].replace(b"4", b"5")
    run = Run(capsys, tmp_path / "m")
    assert (run.code, run.last_words["reason"]) == (1, "WrongHash")


def test_what_was_finished_before_is_not_fetched_again(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults[SHARD].extend([Fault(500)] * 30)
    run = Run(capsys, tmp_path / "m")
    assert (run.code, run.last_words["reason"]) == (1, "SourceUnavailable")
    there = names(tmp_path / "m")
    assert "transformer/b.safetensors" in there or "text_encoder/model.safetensors" in there
    hub.faults.clear()
    hub.asked.clear()
    assert Run(capsys, tmp_path / "m").code == 0
    for name in there:
        assert name.endswith(("model_index.json", "index.json")) or not hub.gets(name)


def test_second_writer_is_refused(hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").mkdir()
    with (tmp_path / "m" / ".fetch-lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        run = Run(capsys, tmp_path / "m")
    assert (run.code, run.last_words["reason"]) == (1, "FolderBusy")
    assert Run(capsys, tmp_path / "m").code == 0


def test_folder_of_something_else_is_refused(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.tex").write_text("")
    run = Run(capsys, tmp_path / "m")
    assert run.code == 2
    assert "holds thesis.tex" in run.error


def test_token_comes_from_the_environment(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    run = Run(capsys, tmp_path / "m")
    assert run.code == 2
    assert "set HF_TOKEN" in run.error
    hub.gated = True
    assert "is gated: accept its terms" in Run(capsys, tmp_path / "m").error
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    run = Run(capsys, tmp_path / "m")
    assert run.code == 0
    assert "hf_secret" not in json.dumps([run.lines, run.last_words]) + run.error


@pytest.mark.parametrize(
    ("flags", "field", "words"),
    [
        (["--revision", "v9"], "revision", "has no revision 'v9'"),
        (["--model-path", "tiny/other"], "modelPath", "has no model 'tiny/other'"),
        (["--model-path", "https://x/y"], "modelPath", "is neither OWNER/NAME"),
    ],
)
def test_bad_input(
    hub: Loopback,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    field: str,
    words: str,
) -> None:
    run = Run(capsys, tmp_path / "m", *flags)
    assert (run.code, run.last_words["field"]) == (2, field)
    assert words in run.error


def test_pipeline_that_is_not_served_is_refused_before_its_weights(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files["model_index.json"] = b'{"_class_name": "PaintByNumbersPipeline"}'
    run = Run(capsys, tmp_path / "m")
    assert run.code == 2
    assert "is a PaintByNumbersPipeline; pipelines that are served:" in run.error
    assert not hub.gets(".safetensors")


def test_pickles_only_is_refused(hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in hub.files if name.startswith("transformer/") and "safetensors" in name]:
        del hub.files[name]
    run = Run(capsys, tmp_path / "m")
    assert run.code == 2
    assert "only as transformer/pytorch_model.bin; only safetensors are loaded" in run.error


def test_progress_is_told_at_most_every_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    report = fetch_command.json_progress(lambda: now[0])
    for second in range(12):
        now[0] = float(second)
        report(second, 100)
    report(100, 100)
    told = [json.loads(line)["bytesDone"] for line in capsys.readouterr().out.splitlines()]
    assert told == [0, 5, 10, 100]
