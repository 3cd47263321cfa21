"""Fetching from an S3-compatible store: the listing is pinned by entity tags, cut downloads go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.model_folder import write_pipeline
from diffusion_runtime import cli
from engine.loopback_hub import BUCKET, PREFIX, Fault, Loopback, serving

ADDRESS = f"s3://{BUCKET}/{PREFIX}"
SHARD = "transformer/a.safetensors"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    folder = write_pipeline(tmp_path / "published")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    with serving(Loopback(files)) as loopback:
        monkeypatch.setenv("AWS_ENDPOINT_URL", loopback.url)
        monkeypatch.setenv("AWS_REGION", "nowhere-1")
        yield loopback


def run(capsys: pytest.CaptureFixture[str], folder: Path, model: str = ADDRESS) -> tuple[int, dict[str, Any]]:
    """Exit code and the last JSON line."""
    code = cli.main(["fetch", "--model-path", model, "--to", str(folder)])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_every_needed_object_arrives(
    store: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = run(capsys, tmp_path / "m")
    assert (code, told["event"]) == (0, "done")
    for name, data in store.files.items():
        assert (tmp_path / "m" / name).read_bytes() == data
    marker = json.loads((tmp_path / "m" / ".diffusion-model.json").read_text())
    assert (marker["source"], marker["name"], marker["commit"]) == ("s3", ADDRESS, told["commit"])


def test_cut_download_goes_on(store: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.faults[SHARD].append(Fault(cut=100))
    assert run(capsys, tmp_path / "m")[0] == 0
    assert (tmp_path / "m" / SHARD).read_bytes() == store.files[SHARD]


def test_object_that_is_replaced_meanwhile_is_noticed(
    store: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusion_runtime.loading.remote.s3 import S3Source

    look = S3Source.look

    def then_replaced(self: S3Source) -> Any:
        listed = look(self)
        store.files[SHARD] = store.files[SHARD][:-1] + b"!"
        return listed

    monkeypatch.setattr(S3Source, "look", then_replaced)
    code, told = run(capsys, tmp_path / "m")
    assert (code, told["reason"]) == (1, "SourceChanged")
    assert SHARD in told["message"]


@pytest.mark.parametrize(
    ("model", "words"),
    [("s3://weights", "write s3://BUCKET/PREFIX"), (f"s3://{BUCKET}/none", "holds no objects")],
)
def test_bad_addresses(
    store: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, words: str
) -> None:
    code, told = run(capsys, tmp_path / "m", model)
    assert (code, told["field"]) == (2, "modelPath")
    assert words in told["message"]
