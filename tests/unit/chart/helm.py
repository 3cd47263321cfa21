"""Runs the real helm on the chart; it is never skipped: without helm the tests fail and say what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.settings import cache_folder

CHART = Path(__file__).parents[3] / "charts" / "diffusion-operator"
FULL_NAME = "release-diffusion-operator"
IMAGES = ("operator.image.repository=example/operator", "engine.image.repository=example/engine")


def helm_program() -> Path:
    """From HELM, PATH, or the tool cache of the local cluster, in this order."""
    named = os.environ.get("HELM") or shutil.which("helm")
    if named:
        return Path(named)
    cached = sorted((cache_folder() / "tools" / "helm").glob("*/helm"))
    if cached:
        return cached[-1]
    pytest.fail("no helm: set HELM, put it on PATH, or run `make test`, which builds it once")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(helm_program()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def template(*settings: str, images: tuple[str, ...] = IMAGES) -> subprocess.CompletedProcess[str]:
    flags = [flag for setting in (*images, *settings) for flag in ("--set", setting)]
    return helm("template", "release", str(CHART), "--namespace", "somewhere", *flags)


@cache
def rendered(*settings: str) -> list[dict[str, Any]]:
    """The objects; the same list for the same settings, so that nobody may change it."""
    finished = template(*settings)
    assert finished.returncode == 0, finished.stderr
    return [document for document in yaml.load_all(finished.stdout, yaml.CSafeLoader) if document]


def only(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    found = [document for document in documents if document["kind"] == kind]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def named(kind: str, name: str, *settings: str) -> dict[str, Any]:
    """One object by kind and name, for kinds of which the chart has several."""
    found = [d for d in rendered(*settings) if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{len(found)} objects {kind} {name}"
    return found[0]


def operator_role() -> dict[str, Any]:
    """The ClusterRole of the operator itself."""
    return named("ClusterRole", FULL_NAME)


def pod_spec(*settings: str) -> dict[str, Any]:
    spec: dict[str, Any] = only(rendered(*settings), "Deployment")["spec"]["template"]["spec"]
    return spec
