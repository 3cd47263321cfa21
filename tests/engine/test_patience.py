"""How long a rank may be silent, stopped or stuck: simulated hours, the engine's own limits."""

from __future__ import annotations

from diffusion_runtime.server.limits import Limits
from diffusion_runtime.server.patience import Signs, overdue

LIMITS = Limits()
MINUTE = 60.0


def seconds_until_overdue(signs_at: object, limits: Limits = LIMITS, hours: float = 2) -> float | None:
    """When the watch, which looks every `look_s`, gives up; None when it never does. `signs_at(now)`."""
    now = 0.0
    while now < hours * 3600:
        now += limits.look_s
        if overdue(signs_at(now), now, limits) is not None:  # type: ignore[operator]
            return now
    return None


def test_a_phase_of_many_minutes_that_answers_pings_is_waited_for() -> None:
    """A decode on a CPU, a compilation, a forward of a long clip: 25 minutes without a step."""

    def busy(now: float) -> Signs:
        last_step = now - now % (25 * MINUTE)
        return Signs(heard_at=now - LIMITS.look_s, progress_at=last_step, drawing=True)

    assert seconds_until_overdue(busy) is None


def test_silence_is_noticed_within_thirty_seconds_whatever_the_rank_does() -> None:
    for drawing in (True, False):
        gone = Signs(heard_at=0.0, progress_at=0.0, drawing=drawing)
        noticed = seconds_until_overdue(lambda now, gone=gone: gone)
        assert noticed is not None
        assert LIMITS.heartbeat_s < noticed <= 30


def test_a_stopped_rank_is_noticed_within_thirty_seconds_even_while_it_loads() -> None:
    """Nobody pings a rank that loads: importing torch may hold its threads for long."""
    noticed = seconds_until_overdue(lambda now: Signs(None, 0.0, drawing=False, stopped_at=0.0))
    assert noticed is not None
    assert noticed <= 30
    assert seconds_until_overdue(lambda now: Signs(None, 0.0, drawing=False)) is None


def test_hours_of_loading_that_gets_on_are_waited_for_and_five_still_minutes_are_not() -> None:
    """Start-up is judged by progress, never by a predicted time."""

    def slow_disk(now: float) -> Signs:
        return Signs(None, now - now % (4 * MINUTE), drawing=False, loading=True)

    assert seconds_until_overdue(slow_disk, hours=5) is None
    still = seconds_until_overdue(lambda now: Signs(None, 0.0, drawing=False, loading=True))
    assert still is not None
    assert 5 * MINUTE < still <= 5 * MINUTE + LIMITS.look_s


def test_a_rank_that_answers_but_never_gets_on_is_given_up() -> None:
    stuck = seconds_until_overdue(lambda now: Signs(heard_at=now, progress_at=0.0, drawing=True))
    assert stuck is not None
    assert LIMITS.progress_s < stuck <= LIMITS.progress_s + LIMITS.look_s


def test_an_idle_rank_is_never_asked_for_progress() -> None:
    assert seconds_until_overdue(lambda now: Signs(heard_at=now, progress_at=0.0, drawing=False)) is None


def test_a_collective_is_given_up_before_the_phase_is() -> None:
    """Else a rank that is stuck in one would be reported as slow, not as waiting for another."""
    assert LIMITS.collective_s < LIMITS.progress_s
