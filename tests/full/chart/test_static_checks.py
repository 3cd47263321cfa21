"""The rendered chart against the Kubernetes schemas of every version, and against checkov's rules."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from full.chart.outcome import record
from full.chart.pytools import program
from unit.chart.helm import rendered

ACCEPTED = Path(__file__).parent / "checkov-accepted.yaml"
EVERYTHING = (
    *(f"monitoring.{part}.enabled=true" for part in ("serviceMonitor", "podMonitor", "rules", "dashboard")),
    "nodeAgent.enabled=true",
)
FOREIGN = (
    "monitoring.coreos.com"  # checked against their own definitions in tests/cluster/test_foreign_kinds.py
)
VERSIONS = [f"1.{minor}" for minor in range(30, 38)]

pytestmark = pytest.mark.timeout(1800)  # installs the programs when the cache has none


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(rendered(*EVERYTHING)))
    return file


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_follows_the_schema(manifests: Path, version: str) -> None:
    ran = subprocess.run(
        [program("kubernetes-validate"), "-k", version, "--strict", manifests],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = (ran.stdout + ran.stderr).splitlines()
    unknown = [line for line in lines if line.startswith("WARN")]
    passed = [line for line in lines if " passed for resource " in line]
    assert ran.returncode == 0, "\n".join(lines)
    assert all(FOREIGN in line for line in unknown), unknown
    documents = list(yaml.safe_load_all(manifests.read_text()))
    assert len(passed) + len(unknown) == len(documents)
    record(f"kubernetes-validate {version}", {"passed": len(passed), "foreign": len(unknown)})


def test_checkov_finds_what_is_accepted_and_nothing_else(manifests: Path) -> None:
    words = ["--framework", "kubernetes", "--skip-download", "--quiet", "--compact", "-o", "json"]
    ran = subprocess.run(
        [program("checkov"), *words, "-f", manifests],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    report = json.loads(ran.stdout)
    summary = report["summary"]
    assert summary["parsing_errors"] == 0
    assert summary["passed"] > 100
    accepted: dict[str, dict[str, str]] = yaml.safe_load(ACCEPTED.read_text())
    assert failed_by_kind(report) == {kind: set(checks) for kind, checks in accepted.items()}
    # Each for one object: a second one of a kind is not accepted with the first.
    assert summary["failed"] == sum(map(len, accepted.values()))
    assert all(len(reason) > 20 for checks in accepted.values() for reason in checks.values())
    record("checkov", {"passed": summary["passed"], "accepted": summary["failed"]})


def failed_by_kind(report: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for check in report["results"]["failed_checks"]:
        found[check["resource"].split(".")[0]].add(check["check_id"])
    return dict(found)
