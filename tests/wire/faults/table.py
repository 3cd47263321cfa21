"""All faults and their cases by name: what the full suite runs, and what its result file is ordered by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from builders.simulated_time import simulate
from wire.faults import answers, crowds, facts, hands, kills, leaders, lives, reads, streams
from wire.faults.outcome import Case, Outcome

SEEDS = (1, 2)


@dataclass(frozen=True)
class Fault:
    """`done` says what was done, `end` what every case asserts; `real` are the cases on the real clock."""

    done: str
    end: str
    cases: dict[str, Case] = field(default_factory=dict)
    real: dict[str, Callable[[], Outcome]] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Of all cases."""
        return {*self.cases, *self.real}

    def run(self, case: str) -> Outcome:
        """Run one case to its end."""
        return self.real[case]() if case in self.real else simulate(self.cases[case])


FAULTS: dict[str, Fault] = {
    "F1": Fault(
        "the operator is killed before and after every single write (Events too); a fresh process goes on",
        "end state equal to the undisturbed run's in every case, nothing leaked, no GPU promised twice",
        {
            **{name: kills.kills(flow) for name, flow in kills.FLOWS.items() if name != "delete"},
            "delete": kills.killed_while_deleting,
            "delete while creating": kills.kills(kills.FLOWS["create"], delete=True),
            "delete while changing": kills.kills(kills.FLOWS["change"], delete=True),
        },
    ),
    "F2": Fault(
        "a fresh operator is served lists from before the last change for 30 s",
        "no serving pod deleted, no old spec applied over the new one, end state equal",
        {name: reads.stale(name) for name in reads.STALE},
    ),
    "F3": Fault(
        "1, 5 or 20 % of all watch events are lost during ten minutes of changes",
        "end state equal within one resync (660 s)",
        {
            f"{share:.0%}, seed {seed}": reads.lost_events(share, seed)
            for share in reads.SHARES
            for seed in SEEDS
        },
    ),
    "F4": Fault(
        "one watch, or all, stays open and says nothing",
        "what happens there is acted on within 90 s, then the end state is right",
        {
            **{resource.plural: reads.silent(resource) for resource in reads.SILENT},
            "all": reads.all_silent,
        },
    ),
    "F5": Fault(
        "the stream of a watch ends a thousand times: 410, an ERROR event, clean EOF, half a JSON line, a "
        "refusal; each time something is made, changed or deleted before, at and after it (real clock, "
        "pauses shortened)",
        "no DiffusionDeployment missed, none kept that is gone, the watch lives; seconds are from the last "
        "change until the mirror shows it",
        real={
            **{f"100 × {end}": streams.restarts(100, (end,)) for end in streams.ENDS},
            "1,000 restarts, all ways in turn": streams.restarts(1000),
        },
    ),
    "F6": Fault(
        "for 60 s a share of all requests is refused or slow (5 s), the operator restarted in between",
        "end state equal, no serving pod touched, Retry-After kept by every write; at rest within twice the "
        "undisturbed run's time and the 60 s",
        {
            f"{kind} at {share:.0%}": answers.storm(kind, share)
            for kind in answers.KINDS
            for share in answers.SHARES
            if kind != "answer lost"
        },
    ),
    "F7": Fault(
        "the write happens and its answer is lost: each write in turn, once and on all four attempts of the "
        "client; and a share of all requests for 60 s",
        "end state equal, no duplicates, no GPU promised twice",
        {
            **{name: kills.lost_answers(flow) for name, flow in kills.FLOWS.items() if name != "delete"},
            **{f"at {share:.0%}": answers.storm("answer lost", share) for share in answers.SHARES},
        },
    ),
    "F10": Fault(
        "two replicas; the leader is killed, frozen for 60 s and thawed, cut off from its Lease; clocks "
        "differ by 5 min; both start at once",
        "never two writers, takeover within 15 s, end state equal",
        {
            **{f"the leader {name}": leaders.leader(name) for name in leaders.HAPPENINGS},
            **{f"the leader dies, clock {s:+.0f} s": leaders.leader("dies", s) for s in leaders.SKEWS_S},
            **{f"pods load, clock {s:+.0f} s": leaders.skewed(s) for s in leaders.SKEWS_S},
            "two start at once": leaders.two_at_once,
        },
    ),
    "F11": Fault(
        "children are deleted or edited by hand, while the operator runs and while it is away",
        "put right within 5 s, or within 10 s of its start; end state equal",
        {
            f"{deed}, {'running' if running else 'away'}": hands.by_hand(deed, running=running)
            for deed in hands.DEEDS
            for running in (True, False)
        },
    ),
    "F17": Fault(
        "GPUs vanish from a node, labels go or lie, for five minutes and across a restart",
        "who serves goes on serving and, unless its product's name is gone, with the same pod; a newcomer "
        "gets only what is there; when the truth is back all are Ready",
        {name: facts.facts(name) for name in facts.LIES},
    ),
    "F20": Fault(
        "deleted and made again within a second, a namespace deleted in the middle of a reconcile, 100 "
        "changes of a spec in 10 s",
        "the successor is right and nothing of its predecessor is left; nothing is left in the namespace; "
        "the last spec holds after at most two roll-outs",
        {
            **{
                f"again after {pause_s} s{', restarted' if restart else ''}": lives.made_again(
                    pause_s, garbage_s=5.0, restart=restart
                )
                for pause_s in (0.0, 0.3, 0.9)
                for restart in (False, True)
            },
            **{
                f"namespace after {writes} writes, {'children' if first else 'owner'} first": (
                    lives.namespace_deleted(writes, children_first=first)
                )
                for writes in range(1, 8)
                for first in (True, False)
            },
            "replicas flap": lives.flapping("replicas"),
            "the plan flaps": lives.flapping("plan"),
        },
    ),
    "promises": Fault(
        "200 deployments created, changed and deleted at once on 300 GPUs (nodes of 8, 4, 2 and 1), the "
        "operator killed 20 times, 1 % of writes refused or their answers lost; promises added up every time",
        "at no write do the promises exceed what the nodes hold as whole pods; no pod stays "
        "unschedulable while its promise stands",
        {
            "200 deployments": crowds.crowd(1, 200, 300, 20),
            "50 deployments": crowds.crowd(2, 50, 75, 10),
            **{
                f"80 deployments, a scheduler that spreads, seed {seed}": crowds.crowd(
                    seed, 80, 75, 10, crowds.SpreadingCluster
                )
                for seed in (6, 8)
            },
        },
    ),
}
