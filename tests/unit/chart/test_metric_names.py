"""Rules, dashboard, examples and docs name only metrics that the code exports, with labels that it sets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from diffusion_operator.reconcile.metrics import Metrics
from diffusion_runtime.server.metrics import EngineMetrics
from localcluster.settings import REPOSITORY
from unit.chart.helm import CHART, only, rendered

NAME = re.compile(r"\bdiffusion_(?:operator|engine)_[a-z_]+[a-z]\b")
NO_METRIC = {"diffusion_operator_io_deployment"}  # the label that monitors add
FILES = (
    CHART / "alerts" / "rules.yaml",
    CHART / "dashboards" / "diffusion-operator.json",
    REPOSITORY / "docs" / "how-to" / "monitoring.md",
    REPOSITORY / "docs" / "examples" / "autoscaled-by-queue.yaml",
    REPOSITORY / "docs" / "examples" / "autoscaled-by-keda.yaml",
    REPOSITORY / "docs" / "reference" / "http-api.md",
)


def exported() -> set[str]:
    names: set[str] = set()
    for registry in (Metrics().registry, EngineMetrics().registry):
        assert isinstance(registry, CollectorRegistry)
        for family in registry.collect():
            names.add(family.name)
            if family.type == "counter":
                names.add(f"{family.name}_total")
            if family.type == "histogram":
                names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_only_names_that_exist(file: Path) -> None:
    used = set(NAME.findall(file.read_text())) - NO_METRIC
    assert used
    assert used - exported() == set()


def test_every_metric_is_explained() -> None:
    text = "".join(file.read_text() for file in FILES if file.suffix == ".md")
    spelled = text.replace("`_", "`diffusion_operator_").replace("`_m", "`diffusion_operator_deployment_m")
    missing = [name for name in exported() if name not in spelled and f"{name}_total" not in spelled]
    parts = ("_bucket", "_sum", "_count", "_total")
    assert [name for name in missing if not name.endswith(parts) and "measured" not in name] == []


def test_the_dashboard_is_whole() -> None:
    text = (CHART / "dashboards" / "diffusion-operator.json").read_text()
    panels = json.loads(text)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    asking = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert all(NAME.search(expression) for expression in asking)
    config_map = only(rendered("monitoring.dashboard.enabled=true"), "ConfigMap")
    assert config_map["data"]["diffusion-operator.json"] == text
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
