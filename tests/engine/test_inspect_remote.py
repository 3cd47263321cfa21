"""Facts of a model that was never fetched: equal to the local folder's, from kilobytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.model_folder import write_pipeline
from diffusion_runtime import cli
from diffusion_runtime.commands.inspect import COMPACT_BYTES, compact
from diffusion_runtime.loading.remote import skeleton
from diffusion_runtime.models.catalog import facts_for, facts_from_folder, known_models
from diffusion_runtime.planning.documents import ModelRef
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.facts import ModelFacts
from engine.loopback_hub import BUCKET, COMMIT, PREFIX, Loopback, serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pipeline(tmp_path / "published")


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with serving(Loopback(files)) as loopback:
        monkeypatch.setenv("HF_ENDPOINT", loopback.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", loopback.url)
        monkeypatch.setenv("AWS_REGION", "nowhere-1")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        yield loopback


def inspected(capsys: pytest.CaptureFixture[str], *flags: str) -> ModelFacts:
    assert cli.main(["inspect", "--output", "json", *flags]) == 0
    return ModelFacts.model_validate(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("model", ["tiny/qwen", f"s3://{BUCKET}/{PREFIX}"])
def test_same_facts_as_from_the_folder(
    hub: Loopback, folder: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    there, here = inspected(capsys, "--model-path", model), facts_from_folder(folder)
    assert there.model_dump(exclude={"model"}) == here.model_dump(exclude={"model"})
    assert there.model.name == model
    assert there.model.source == ("huggingFace" if model == "tiny/qwen" else "s3")


def test_revision_is_pinned(hub: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    facts = inspected(capsys, "--model-path", "tiny/qwen", "--revision", "main")
    assert facts.model.revision == COMMIT


@pytest.mark.parametrize("first", [8, 64, 10_000])
def test_only_headers_are_asked_for(
    hub: Loopback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """One request of fixed size, and one more for the rest of a longer header."""
    monkeypatch.setattr(skeleton, "FIRST_READ_BYTES", first)
    name = "vae/diffusion_pytorch_model.safetensors"
    data = hub.files[name]
    header = 8 + int.from_bytes(data[:8], "little")
    inspected(capsys, "--model-path", "tiny/qwen")
    expected = [f"bytes=0-{min(first, len(data)) - 1}"]
    if first < header:
        expected.append(f"bytes={first}-{header - 1}")
    assert hub.gets(name) == expected


def test_truncated_file_is_named(hub: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    name = "vae/diffusion_pytorch_model.safetensors"
    hub.files[name] = hub.files[name][:-1]
    assert cli.main(["inspect", "--model-path", "tiny/qwen"]) == 2
    assert f"{name} is truncated" in capsys.readouterr().err


def test_answer_and_refusal_are_the_last_words_of_a_container(
    hub: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    flags = ["inspect", "--compact", "--termination-log", str(log), "--model-path"]
    assert cli.main([*flags, "tiny/qwen", "--revision", "main"]) == 0
    facts = ModelFacts.model_validate_json(log.read_bytes())
    assert (facts.model.name, facts.model.revision) == ("tiny/qwen", COMMIT)
    assert log.read_text() == capsys.readouterr().out.strip()
    assert cli.main([*flags, "tiny/qwen", "--revision", "v9"]) == 2
    words = json.loads(log.read_bytes())
    assert (words["reason"], words["phase"]) == ("InvalidSpec", "inspect")
    assert "has no revision 'v9'" in words["message"]


def as_inspected(facts: ModelFacts) -> ModelFacts:
    """What looking at these files in a hub or store adds: the commit, and what every part takes on disk.

    The name is as long as any known one; bytes have as many digits as parts in float32 would take.
    """
    longest = max(known_models(), key=len)
    model = ModelRef(name=longest, family=facts.model.family, source="huggingFace", revision=COMMIT)
    parts = tuple(
        part.model_copy(update={"stored_bytes": part.elements * 4 + 1}) for part in facts.components
    )
    return facts.model_copy(update={"model": model, "components": parts})


def test_looking_adds_to_built_in_facts_what_is_measured_below(
    hub: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    there = inspected(capsys, "--model-path", "tiny/qwen")
    known = as_inspected(facts_for("Qwen/Qwen-Image"))
    assert there.model_dump(exclude_defaults=True).keys() <= known.model_dump(exclude_defaults=True).keys()
    assert set(there.model.model_dump(exclude_defaults=True)) == set(
        known.model.model_dump(exclude_defaults=True)
    )
    for part in there.components:
        fields = part.model_dump(exclude_defaults=True).keys()
        assert fields <= known.component(part.name).model_dump(exclude_defaults=True).keys()


@pytest.mark.parametrize("inspect", [False, True], ids=["built in", "inspected"])
@pytest.mark.parametrize("model", known_models())
def test_compact_facts_of_every_known_model_fit_and_read_back(model: str, inspect: bool) -> None:
    facts = as_inspected(facts_for(model)) if inspect else facts_for(model)
    text = compact(facts)
    assert len(text.encode()) <= COMPACT_BYTES
    assert ModelFacts.model_validate_json(text) == facts


def test_facts_beyond_the_limit_are_no_half_answer() -> None:
    facts = facts_for("Qwen/Qwen-Image").model_copy(update={"notes": ("x" * COMPACT_BYTES,)})
    with pytest.raises(BadRequest, match=rf"over {COMPACT_BYTES}"):
        compact(facts)
