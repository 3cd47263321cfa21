"""Every alert fires when it should and not beside it, by Prometheus' own rule engine, and is explained."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from localcluster.gotools import tool
from localcluster.settings import REPOSITORY
from unit.chart.helm import CHART, only, rendered

RULES = CHART / "alerts" / "rules.yaml"
TESTS = Path(__file__).parent / "alert_tests.yaml"


def alerts() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"]]


@pytest.mark.timeout(1800)  # builds promtool when the cache has none, about two minutes
def test_promtool_agrees(tmp_path: Path) -> None:
    promtool("check", "rules", "--lint-fatal", str(RULES))  # the templates of the annotations too
    # When an alert fires is the question here: its words would have to be repeated in every case.
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    promtool("test", "rules", str(shutil.copy(TESTS, tmp_path)))


def promtool(*words: str) -> None:
    ran = subprocess.run([tool("promtool"), *words], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_fires_in_a_test() -> None:
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(alerts())


def test_every_alert_is_explained() -> None:
    page = (REPOSITORY / "docs" / "how-to" / "monitoring.md").read_text()
    explained = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### Diffusion")]
    assert explained == alerts()


def test_the_chart_carries_the_file_as_it_is() -> None:
    rule = only(rendered("monitoring.rules.enabled=true"), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
