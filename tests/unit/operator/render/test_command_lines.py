"""Every command line that a container gets is one that the program in the engine image understands."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.kube.reports import MANAGEMENT_PORT
from diffusion_operator.render.container import PLAN_PATH
from diffusion_operator.render.model_jobs import PROGRESS_VARIABLE
from diffusion_runtime.cli import build_parser
from diffusion_runtime.commands import fetch_progress
from unit.operator.render.test_model_manifests import CACHE, CASES, HUB, IMAGE, PVC, S3, rendered

Arguments = dict[str, Any]


def containers(source: Arguments, cache: Any = None) -> dict[str, Arguments]:
    """All containers of Jobs and serving pods, by name; init containers among them."""
    jobs, children = rendered(source, cache)
    specs = [
        one["spec"]["template"]["spec"] for one in (*jobs, *children) if "template" in one.get("spec", {})
    ]
    return {c["name"]: c for spec in specs for c in (*spec.get("initContainers", ()), *spec["containers"])}


def parsed(container: Arguments) -> Arguments:
    """What the program makes of the command; it exits, and so fails the test, on what it does not know."""
    program, command, *arguments = container["command"]
    assert program == "diffusion-runtime"
    return vars(build_parser(command).parse_args([command, *arguments]))


@pytest.mark.parametrize(("source", "cache"), CASES)
def test_every_container_has_a_command_line_that_is_understood(source: Arguments, cache: Any) -> None:
    found = containers(source, cache)
    fetched = source in (HUB, S3)
    assert set(found) == {"inspect", "engine"} | ({"fetch"} if fetched else set())
    for name, container in found.items():
        assert parsed(container)["command"] == {"engine": "serve"}.get(name, name)


@pytest.mark.parametrize(
    ("source", "named"),
    [(HUB, "tiny/qwen"), (S3, "s3://models/tiny/qwen"), (PVC, "/models/weights/tiny"), (IMAGE, None)],
)
def test_an_inspection_looks_at_the_source_and_answers_in_short(source: Arguments, named: str | None) -> None:
    container = containers(source)["inspect"]
    arguments, mounted = parsed(container), [mount["mountPath"] for mount in container["volumeMounts"]]
    assert arguments["model_path"] == (named or mounted[-1])
    if source in (PVC, IMAGE):
        assert any(arguments["model_path"].startswith(path) for path in mounted)
    assert arguments["compact"] is True
    assert arguments["variant"] == ("fp16" if source is HUB else None)
    assert str(arguments["termination_log"]) == "/dev/termination-log"


@pytest.mark.parametrize("cache", [None, CACHE])
def test_a_fetch_goes_where_its_own_volume_is_mounted(cache: Any) -> None:
    container = containers(HUB, cache)["fetch"]
    arguments = parsed(container)
    assert (arguments["model_path"], arguments["variant"]) == ("tiny/qwen", "fp16")
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "model"]
    assert str(arguments["to"]).startswith(mount["mountPath"])
    assert not mount.get("readOnly")


def test_an_engine_reads_the_plan_that_is_mounted() -> None:
    container = containers(HUB)["engine"]
    assert str(parsed(container)["plan"]) == PLAN_PATH
    assert any(PLAN_PATH.startswith(mount["mountPath"]) for mount in container["volumeMounts"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (ports["http"], ports["management"]) == (
        parsed(container)["port"],
        parsed(container)["management_port"],
    )
    assert ports["management"] == MANAGEMENT_PORT


def test_progress_is_told_where_the_operator_asks() -> None:
    container = containers(HUB, CACHE)["fetch"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert PROGRESS_VARIABLE == fetch_progress.VARIABLE
    assert environment[fetch_progress.VARIABLE] == str(MANAGEMENT_PORT)
    assert MANAGEMENT_PORT in [port["containerPort"] for port in container["ports"]]
