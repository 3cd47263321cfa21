"""`kubectl diffusion explain` tells a stranger what was decided and why, from the status alone."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.cli.style import WIDTH, Style
from diffusion_operator.cli.view import view_of
from diffusion_operator.cli.words import words
from unit.cli.dds import condition, deployment, qwen_plan, ready_conditions

PLAIN = Style()


def text_of(raw: dict[str, Any]) -> str:
    return words(view_of(raw), PLAIN)


def ready() -> dict[str, Any]:
    return deployment(
        readyReplicas=2,
        url="http://qwen.pictures.svc",
        conditions=ready_conditions("2 of 2 replicas ready"),
        plan=qwen_plan(),
        placements=[{"group": "h200", "gpusPerReplica": 2, "replicas": 2, "planHash": "3f2a9c0d1e4b"}],
    )


def test_the_first_line_names_object_and_state() -> None:
    first = text_of(ready()).splitlines()[0]
    assert first.startswith("qwen  namespace pictures")
    assert first.endswith("● Ready")
    assert len(first) == WIDTH


def test_model_gpus_and_replicas_are_one_sentence() -> None:
    assert "Qwen/Qwen-Image on 2 × NVIDIA-H200 for each replica; 2 of 2 replicas ready." in text_of(ready())


def test_nothing_is_said_twice() -> None:
    assert text_of(ready()).count("2 of 2 replicas ready") == 1


def test_the_memory_table_starts_with_the_largest_component() -> None:
    lines = text_of(ready()).splitlines()
    rows = [line.split() for line in lines if "GiB  " in line or "MiB  " in line]
    names = [row[0] for row in rows if row[0] in {"transformer", "text_encoder", "vae"}]
    assert names == ["transformer", "text_encoder", "vae"]
    assert any("38.0GiB" in line and "stays on the GPU" in line for line in lines)
    assert any("256.0MiB" in line for line in lines)
    assert any("moved to the GPU when used" in line for line in lines)


def test_peak_and_free_memory_stand_together() -> None:
    assert "peak 57.9GiB of 133.4GiB free on each GPU" in text_of(ready())


@pytest.mark.parametrize(
    "part",
    [
        "• Guidance is on, so two GPUs share its two passes.",
        "! Activations are fitted for shapes up to 2048 x 2048.",
        "short by 4.1GiB",
        "everything resident does not fit",
        "slower by 10.1 s",
        "• residency.text_encoder",
        "12.3 s for each request, predicted by formula",
        "bfloat16 everywhere",
        "http://qwen.pictures.svc",
    ],
)
def test_it_holds(part: str) -> None:
    assert part in text_of(ready())


def test_a_cpu_plan_says_so_and_predicts_no_time() -> None:
    raw = ready()
    raw["status"]["plan"] |= {"device": "cpu"}
    text = text_of(raw)
    assert "on the CPU, as performance.device asks" in text
    assert "not predicted for the CPU" in text
    assert "12.3 s" not in text


def test_components_with_different_dtypes_are_named() -> None:
    raw = ready()
    raw["status"]["plan"]["dtype"]["vae"] = "float32"
    assert "text_encoder bfloat16, transformer bfloat16, vae float32" in text_of(raw)


def test_no_line_is_wider_than_the_terminal_it_is_made_for() -> None:
    raw = ready()
    raw["status"]["plan"]["reasons"] = ["word " * 60]
    assert max(len(line) for line in text_of(raw).splitlines()) <= WIDTH


def test_a_stalled_deployment_shows_the_message_that_stalls_it() -> None:
    raw = deployment(
        conditions=[
            condition("Ready", "False", "UnknownModel"),
            condition(
                "Stalled",
                "True",
                "UnknownModel",
                "spec.model.source.builtIn.name: no model dino; known: demo",
            ),
        ]
    )
    text = text_of(raw)
    assert text.splitlines()[0].endswith("✗ Stalled")
    assert "no model dino; known: demo" in text
    assert "Decision" not in text


def test_waiting_for_gpus_shows_the_numbers() -> None:
    raw = ready()
    raw["status"] |= {
        "readyReplicas": 1,
        "conditions": [
            condition("Ready", "False", "InsufficientGPUs"),
            condition("Reconciling", "True", "InsufficientGPUs", "1 replica waits for 2 GPUs; 1 is free"),
            condition("Stalled", "False", "InsufficientGPUs"),
        ],
    }
    text = text_of(raw)
    assert text.splitlines()[0].endswith("◌ Not ready yet")
    assert "1 replica waits for 2 GPUs; 1 is free" in text
    assert "1 of 2 replicas ready" in text


def test_a_serving_fallback_is_ready_and_degraded() -> None:
    raw = ready()
    raw["status"]["conditions"][-1] = condition(
        "Degraded", "True", "FallbackActive", "pod a executes a fallback"
    )
    text = text_of(raw)
    assert text.splitlines()[0].endswith("● Ready, degraded")
    assert "pod a executes a fallback" in text


def test_a_suspended_deployment_shows_its_plan() -> None:
    raw = deployment(
        conditions=[condition("Ready", "False", "Suspended", "spec.suspend is true")], plan=qwen_plan()
    )
    text = text_of(raw)
    assert text.splitlines()[0].endswith("○ Suspended")
    assert "short by 4.1GiB" in text


@pytest.mark.parametrize("status", [{}, {"observedGeneration": -1}])
def test_an_object_without_status_asks_for_the_operator(status: dict[str, int]) -> None:
    text = text_of(deployment(**status))
    assert "was seen" not in text
    assert text.splitlines()[0].endswith("◌ Not looked at yet")
    assert "Is it running?" in text


def test_a_change_that_was_not_looked_at_is_told() -> None:
    raw = ready()
    raw["metadata"]["generation"] = 4
    assert "generation 4 is wanted, 3 was seen" in text_of(raw)


def test_several_groups_are_listed() -> None:
    raw = ready()
    raw["status"]["placements"].append(
        {"group": "l40s", "gpusPerReplica": 4, "replicas": 1, "planHash": "aaaa"}
    )
    text = text_of(raw)
    assert "Groups" in text
    assert "4 GPUs each" in text


def test_colour_changes_no_word() -> None:
    painted = words(view_of(ready()), Style(colour=True))
    assert painted != text_of(ready())
    for name in ("\x1b[1m", "\x1b[1;36m", "\x1b[1;32m", "\x1b[2m", "\x1b[0m"):
        painted = painted.replace(name, "")
    assert painted == text_of(ready())
