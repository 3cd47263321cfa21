"""Hands the wanted replicas out to hardware groups.

Replicas that exist stay where they are. The others go to the group with the most images per GPU-second that
has room, then to the next one; what present nodes cannot hold goes to pools that can grow. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diffusion_operator.placement.budget import Budget
from diffusion_operator.placement.groups import Group
from diffusion_operator.placement.offers import Offer, Offers


@dataclass
class Share:
    """Replicas of one offer: on nodes that exist, and on nodes that a pool is to bring."""

    offer: Offer
    present: int = 0
    future: int = 0

    @property
    def replicas(self) -> int:
        """Pods of the group."""
        return self.present + self.future

    @property
    def gpus(self) -> int:
        """GPUs of one pod."""
        return self.offer.plan.gpus_per_replica


def hand_out(offers: Offers, groups: Sequence[Group], wanted: int, budget: Budget) -> list[Share]:
    """Shares with at least one replica, best first; fewer replicas than wanted means that no room is left."""
    shares = _keep(offers.kept(groups), wanted, budget)
    _fill(shares, offers, groups, wanted, budget, _Present())
    _fill(shares, offers, groups, wanted, budget, _Future())
    held = [share for share in shares if share.replicas]
    return sorted(held, key=lambda share: (not share.present, share.offer.rank))


def _keep(kept: Sequence[Offer], wanted: int, budget: Budget) -> list[Share]:
    """As many as exist, the best groups first when fewer are wanted."""
    shares = []
    for offer in kept:
        stay = min(offer.kept, wanted)
        share = Share(offer)
        share.present = budget.take(share.gpus, offer.group.fits(offer.plan, stay, staying=True))
        wanted -= share.present
        shares.append(share)
    return shares


@dataclass(frozen=True)
class _Present:
    """Nodes that exist."""

    def room(self, share: Share, left: int) -> int:
        offer = share.offer
        return offer.group.fits(offer.plan, share.present + left, staying=offer.kept > 0) - share.present

    def new(self, offers: Offers, group: Group, replicas: int, most: int | None) -> Offer | None:
        return offers.new(group, group.free_nodes, replicas, most)

    def give(self, share: Share, count: int) -> None:
        share.present += count


@dataclass(frozen=True)
class _Future:
    """Nodes that a pool may bring."""

    def room(self, share: Share, left: int) -> int:
        return share.offer.group.fits(share.offer.plan, share.future + left, future=True) - share.future

    def new(self, offers: Offers, group: Group, replicas: int, most: int | None) -> Offer | None:
        return offers.new(group, group.future_nodes, replicas, most)

    def give(self, share: Share, count: int) -> None:
        share.future += count


def _fill(
    shares: list[Share],
    offers: Offers,
    groups: Sequence[Group],
    wanted: int,
    budget: Budget,
    where: _Present | _Future,
) -> None:
    """Give what is left to the best share or new offer with room, until nothing is left or nobody has it."""
    full: set[int] = set()
    while (left := wanted - sum(share.replicas for share in shares)) > 0:
        candidates = [share for share in shares if id(share) not in full]
        candidates += _new_shares(shares, offers, groups, left, budget, where.new)
        roomy = [(share, where.room(share, left)) for share in candidates]
        roomy = [(share, room) for share, room in roomy if room > 0]
        if not roomy:
            return
        best, room = min(roomy, key=lambda pair: pair[0].offer.rank)
        given = budget.take(best.gpus, room)
        where.give(best, given)
        if not any(best is share for share in shares):
            shares.append(best)
        full.add(id(best))


def _new_shares(
    shares: Sequence[Share],
    offers: Offers,
    groups: Sequence[Group],
    left: int,
    budget: Budget,
    new: Callable[[Offers, Group, int, int | None], Offer | None],
) -> list[Share]:
    """New offers of groups that have none yet."""
    if budget.gpus is not None and budget.gpus < 1:
        budget.refuse()
        return []
    known = {share.offer.group.name for share in shares}
    made = [new(offers, group, left, budget.gpus) for group in groups if group.name not in known]
    return [Share(offer) for offer in made if offer is not None]
