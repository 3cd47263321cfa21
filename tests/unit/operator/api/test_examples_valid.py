"""Every DiffusionDeployment among the examples is one that this version takes; what scales it names it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.names import GROUP_VERSION, KIND
from localcluster.settings import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "docs" / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_it_parses(file: Path) -> None:
    documents = list(yaml.safe_load_all(file.read_text()))
    deployments = [document for document in documents if document["kind"] == KIND]
    assert deployments
    for raw in deployments:
        raw["metadata"] |= {"namespace": "team", "uid": "u"}
        raw["spec"].setdefault("replicas", 1)  # the schema's only default
        DiffusionDeployment.parse(raw)
    names = {raw["metadata"]["name"] for raw in deployments}
    for other in documents:
        if "scaleTargetRef" in other.get("spec", {}):
            target = other["spec"]["scaleTargetRef"]
            assert (target["apiVersion"], target["kind"]) == (GROUP_VERSION, KIND)
            assert target["name"] in names
            assert "replicas" not in yaml.safe_load(file.read_text().split("---")[0])["spec"]
