"""One case of every fault of the full suite (tests/full/faults), so that `make test` holds each once.

F8 and F9 need a real API server: tests/apiserver; F12 and F18 a cluster: tests/cluster.
"""

from __future__ import annotations

import logging

import pytest

from builders.simulated_time import simulate
from diffusion_operator.kube.resources import SERVICES
from wire.faults import answers, crowds, facts, hands, kills, leaders, lives, reads, streams
from wire.faults.outcome import Case

SHORTENED: dict[str, Case] = {
    "F1 killed at every write of suspend": kills.kills(kills.FLOWS["suspend"]),
    "F1 killed at every write of scale up": kills.kills(kills.FLOWS["scale up"]),
    "F2 stale lists after a scale up": reads.stale("scaled up"),
    "F2 stale lists after a delete": reads.stale("deleted"),
    "F3 a fifth of all watch events is lost": reads.lost_events(0.2, 2, deployments=3, changes=3),
    "F4 the watch of Services is silent": reads.silent(SERVICES),
    "F6 half of all requests get 503": answers.storm("503", 0.5),
    "F6 a tenth of all requests get 429": answers.storm("429", 0.1),
    "F7 each answer of a scale up is lost": kills.lost_answers(kills.FLOWS["scale up"]),
    "F10 the leader dies, clocks differ": leaders.leader("dies", 300.0),
    "F10 the leader freezes between two writes": leaders.leader("freezes between two writes and thaws"),
    "F11 a Deployment is deleted": hands.by_hand("Deployment deleted", running=True),
    "F11 a Service is edited while nobody looks": hands.by_hand("Service selector", running=False),
    "F17 all GPUs vanish": facts.facts("all GPUs vanish, the serving one too"),
    "F17 no labels at all": facts.facts("no GPU feature labels at all"),
    "F20 deleted and made again": lives.made_again(0.3, garbage_s=5.0, restart=True),
    "F20 a namespace goes away": lives.namespace_deleted(3, children_first=True),
    "no GPU promised twice": crowds.crowd(3, 12, 15, 2),
    "no GPU promised twice, pods spread": crowds.crowd(3, 12, 15, 2, crowds.SpreadingCluster),
}


@pytest.mark.parametrize("name", SHORTENED)
def test_it_ends_as_if_nothing_had_happened(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="diffusion_operator")
    assert simulate(SHORTENED[name]).runs >= 1


def test_no_end_of_a_stream_loses_anything() -> None:
    """F5: each way twice."""
    assert streams.restarts(2 * len(streams.ENDS))().figures["missed"] == 0
