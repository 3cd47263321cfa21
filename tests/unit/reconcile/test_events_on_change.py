"""Events tell changes once: decision, refusal, failure, recovery."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from builders.simulated_time import SimulatedLoop, simulate
from diffusion_operator.kube.errors import ApiError, Forbidden, ServerError, Unreachable
from diffusion_operator.reconcile import event_sender
from diffusion_operator.reconcile.event_sender import EventSender
from diffusion_operator.reconcile.events import Change, changes
from unit.reconcile.fakecluster import FakeCluster
from unit.reconcile.plans import NOW
from unit.reconcile.worlds import demo, world

DD = {"metadata": {"name": "demo", "namespace": "team", "uid": "u1"}}
PLAN = {
    "hash": "aaaa",
    "model": "demo",
    "gpusPerReplica": 1,
    "product": "NVIDIA-H200",
    "layoutSummary": "1 GPU",
    "peakPerGPU": "2GiB",
    "freePerGPU": "100GiB",
    "reasons": ["it fits"],
}


def status(generation: int = 1, plan: dict[str, Any] | None = None, **conditions: str) -> dict[str, Any]:
    """Conditions as Ready="!Progressing": false with that reason."""
    found = [
        {
            "type": kind,
            "status": "False" if reason.startswith("!") else "True",
            "reason": reason.lstrip("!"),
            "message": f"because of {reason.lstrip('!')}",
            "observedGeneration": generation,
        }
        for kind, reason in conditions.items()
    ]
    return {"conditions": found} | ({"plan": plan} if plan else {})


def told(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change.type, change.reason) for change in changes(before, after)]


def test_a_decision_is_told_with_its_numbers_and_reasons() -> None:
    (change,) = changes({}, status(plan=PLAN, Ready="!Progressing", Reconciling="Progressing"))
    assert (
        change.note == "demo on 1 x NVIDIA-H200 per replica: 1 GPU, peak 2GiB of 100GiB free per GPU. it fits"
    )


def test_what_stays_is_not_told_again() -> None:
    ready = status(plan=PLAN, Ready="Ready")
    assert told(ready, ready) == []
    waits = status(Ready="!InsufficientGPUs", Reconciling="InsufficientGPUs")
    assert told(waits, waits) == []


def test_a_refusal_is_told_once_although_two_conditions_carry_it() -> None:
    refused = status(Ready="!InvalidSpec", Stalled="InvalidSpec")
    assert told(status(Ready="Ready"), refused) == [("Warning", "InvalidSpec")]


def test_a_new_spec_that_is_refused_for_the_same_reason_is_told() -> None:
    first, second = (status(n, Ready="!InvalidSpec", Stalled="InvalidSpec") for n in (1, 2))
    assert told(first, second) == [("Warning", "InvalidSpec")]


def test_numbers_that_move_while_it_waits_are_not_told() -> None:
    before, after = (status(Ready="!InsufficientGPUs", Reconciling="InsufficientGPUs") for _ in range(2))
    after["conditions"][0]["message"] = "3 are free"
    assert told(before, after) == []


def test_recovery_and_degradation_are_told() -> None:
    broken = status(Ready="!CrashLoop", Reconciling="CrashLoop")
    assert told(broken, status(Ready="Ready")) == [("Normal", "Ready")]
    assert told(status(Ready="Ready"), status(Ready="Ready", Degraded="FallbackActive")) == [
        ("Warning", "FallbackActive")
    ]


DIES = Change("Warning", "CrashLoop", "Reconcile", "pod ended")


def sender(cluster: FakeCluster) -> tuple[EventSender, list[str]]:
    """A sender that loses no time, and why it dropped what."""
    dropped: list[str] = []

    async def sleep(_seconds: float) -> None:
        return

    return EventSender(cluster, "operator-1", lambda: NOW, dropped=dropped.append, sleep=sleep), dropped


async def test_the_same_event_again_becomes_a_series() -> None:
    cluster = FakeCluster()
    events, dropped = sender(cluster)
    for _ in range(3):
        events.post(DD, DIES)
        await events.flush()
    (event,) = cluster.events.values()
    assert event["series"] == {"count": 3, "lastObservedTime": "2026-11-24T12:00:00.000000Z"}
    assert event["reportingController"] == "diffusion-operator.io/operator"
    assert event["regarding"]["uid"] == "u1"
    assert dropped == []


async def test_what_happens_again_while_it_waits_is_sent_once() -> None:
    cluster = FakeCluster()
    events, _ = sender(cluster)
    for _ in range(3):
        events.post(DD, DIES)
    assert len(events) == 1
    await events.flush()
    (event,) = cluster.events.values()
    assert event["series"]["count"] == 3


async def test_another_note_is_another_event_and_order_is_kept() -> None:
    cluster = FakeCluster()
    events, _ = sender(cluster)
    for note in ("one", "two", "three"):
        events.post(DD, Change("Normal", "Planned", "Plan", note))
    await events.flush()
    assert [event["note"] for event in cluster.events.values()] == ["one", "two", "three"]


class Failing(FakeCluster):
    """Answers with these errors first."""

    errors: list[ApiError]

    async def create_event(self, event: dict[str, Any]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        await super().create_event(event)


async def test_an_api_server_that_comes_back_is_waited_for_and_a_refusal_is_not() -> None:
    cluster = Failing()
    events, dropped = sender(cluster)
    cluster.errors = [ServerError("away"), ServerError("away")]
    events.post(DD, DIES)
    await events.flush()
    assert (len(cluster.events), dropped) == (1, [])
    for errors, why in (
        ([Unreachable("away")] * 3, "noAnswer"),
        ([Forbidden("the namespace is going", status=403)], "refused"),
    ):
        cluster.errors = list(errors)
        events.post(DD, Change("Normal", "Planned", "Plan", why))
        await events.flush()
        assert (len(cluster.events), cluster.errors, dropped.pop()) == (1, [], why)


async def test_a_full_line_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_sender, "LONGEST_LINE", 2)
    cluster = FakeCluster()
    events, dropped = sender(cluster)
    for note in ("one", "two", "three"):
        events.post(DD, Change("Normal", "Planned", "Plan", note))
    await events.flush()
    assert [event["note"] for event in cluster.events.values()] == ["one", "two"]
    assert dropped == ["lineFull"]


def test_a_crowd_is_told_of_slowly_and_a_stop_tells_the_rest_at_once() -> None:
    async def case(loop: SimulatedLoop) -> None:
        cluster = FakeCluster()
        events = EventSender(cluster, "operator-1", lambda: NOW)
        running = loop.create_task(events.run())
        for number in range(200):
            events.post(DD, Change("Normal", "Planned", "Plan", str(number)))
        await asyncio.sleep(5.05)
        assert len(cluster.events) == event_sender.EVENTS_AT_ONCE + 5 * event_sender.EVENTS_PER_S
        running.cancel()
        await asyncio.wait([running])
        stopped_s = loop.time()
        await events.end(5.0)
        assert [event["note"] for event in cluster.events.values()] == [str(number) for number in range(200)]
        assert loop.time() == stopped_s

    simulate(case)


def test_while_more_is_due_than_is_worked_on_events_go_one_by_one() -> None:
    async def case(loop: SimulatedLoop) -> None:
        cluster, crowd = FakeCluster(), [True]
        events = EventSender(cluster, "operator-1", lambda: NOW, crowded=lambda: crowd[0])
        running = loop.create_task(events.run())
        for number in range(20):
            events.post(DD, Change("Normal", "Planned", "Plan", str(number)))
        await asyncio.sleep(5.05)
        assert len(cluster.events) == 5 * event_sender.EVENTS_PER_S_IN_A_CROWD
        crowd[0] = False
        await asyncio.sleep(1.0)
        assert len(cluster.events) == 20
        running.cancel()
        await asyncio.wait([running])

    simulate(case)


def test_a_stop_does_not_wait_for_an_api_server_that_is_away() -> None:
    async def case(loop: SimulatedLoop) -> None:
        cluster, dropped = Failing(), Counter[str]()
        cluster.errors = [Unreachable("away")] * 100
        events = EventSender(cluster, "operator-1", lambda: NOW, dropped=lambda why: dropped.update([why]))
        for number in range(3):
            events.post(DD, Change("Normal", "Planned", "Plan", str(number)))
        await events.end(5.0)
        assert loop.time() == 5.0
        assert dropped == {"stopped": 3}

    simulate(case)


async def test_a_note_is_cut_by_bytes_as_the_api_server_counts() -> None:
    made = world(2)
    made.cluster.submit(demo(hardware={"nodeSelector": {"模" * 1000: "x"}}))
    await made.settle()
    (event,) = made.cluster.events.values()
    assert 1000 < len(event["note"].encode()) <= 1024
    assert "模模" in event["note"]
