"""`python -m diffusion_operator.api.generate` writes what is committed, and `--check` names what is stale."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from diffusion_operator.api import generate
from diffusion_operator.api.crd import crd
from diffusion_operator.api.generate import (
    CHART_CRD_FILE,
    CHART_RBAC_FILE,
    CRD_FILE,
    GPU_NODE_CRD_FILE,
    GPU_NODE_REFERENCE_FILE,
    REFERENCE_FILE,
    generated_files,
    main,
    stale_files,
)
from diffusion_operator.api.gpu_node import gpu_node_crd

ROOT = Path(__file__).parents[4]


def test_committed_files_are_current() -> None:
    assert stale_files(ROOT) == []


def test_check_names_missing_and_changed_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 0
    capsys.readouterr()
    (tmp_path / CRD_FILE).write_text("old")
    (tmp_path / REFERENCE_FILE).unlink()
    assert main(["--check", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"stale: {CRD_FILE}" in said
    assert f"stale: {REFERENCE_FILE}" in said
    assert CHART_CRD_FILE not in said
    assert (tmp_path / CRD_FILE).read_text() == "old"


def test_crd_file_is_the_crd() -> None:
    assert yaml.safe_load(generated_files()[CRD_FILE]) == crd()
    assert yaml.safe_load(generated_files()[GPU_NODE_CRD_FILE]) == gpu_node_crd()


def test_chart_crd_is_switched_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    text = generated_files()[CHART_CRD_FILE]
    assert "{{- if .Values.crds.enabled }}" in text
    assert text.rstrip().endswith("{{- end }}")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("{{-"))
    documents = list(yaml.safe_load_all(body))
    for document in documents:
        assert document["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert [document["spec"] for document in documents] == [crd()["spec"], gpu_node_crd()["spec"]]


def test_braces_in_descriptions_are_escaped_for_helm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "crd", lambda: {"metadata": {}, "description": "write {{ x }} here"})
    assert 'write {{ "{{" }} x }} here' in generated_files()[CHART_CRD_FILE]


def test_chart_rules_carry_their_reasons() -> None:
    text = generated_files()[CHART_RBAC_FILE]
    body = [line for line in text.splitlines() if not line.startswith("{{-")]
    rules = yaml.safe_load("\n".join(body))
    assert all(rule.keys() == {"apiGroups", "resources", "verbs"} for rule in rules)
    assert sum(line.startswith("# ") for line in body) == len(rules)


def test_reference_has_a_line_for_every_field() -> None:
    page = generated_files()[REFERENCE_FILE]
    for field in ("spec.model.source.builtIn.name", "spec.workload.shapes[].width", "status.plan.peakPerGPU"):
        assert f"| `{field}` |" in page
    report = generated_files()[GPU_NODE_REFERENCE_FILE]
    for field in ("status.gpus[].foreignBytes", "status.gpus[].heldBy[].name", "status.reporter.uid"):
        assert f"| `{field}` |" in report
