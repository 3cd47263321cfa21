"""GPUs left on some nodes, kept in the order in which pods are packed, so that one more pod costs no search.

A thousand reservations on a thousand nodes must not look at a million amounts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterator, Mapping


class Left:
    """GPUs per node; `amounts` is read only for others."""

    def __init__(self, amounts: Mapping[str, int]) -> None:
        self.amounts = dict(amounts)
        self._names: dict[int, list[str]] = {}
        for name in sorted(self.amounts):
            self._names.setdefault(self.amounts[name], []).append(name)

    def copy(self) -> Left:
        """Another one that may be changed by itself."""
        other = Left({})
        other.amounts = dict(self.amounts)
        other._names = {amount: list(names) for amount, names in self._names.items()}
        return other

    def set(self, name: str, amount: int) -> None:
        """What is left on one of the nodes from now on; other nodes are not taken in."""
        before = self.amounts.get(name)
        if before is None or before == amount:
            return
        names = self._names[before]
        del names[bisect_left(names, name)]
        insort(self._names.setdefault(amount, []), name)
        self.amounts[name] = amount

    def pack(self, gpus: int, count: int, *, without: Collection[str] = ()) -> list[str]:
        """As `claims.pack`: the fullest node that still fits first, ties by name."""
        chosen: list[str] = []
        if gpus <= 0 or count <= 0:
            return chosen
        for amount, name in self._fullest(gpus):
            if name not in without:
                chosen += [name] * min(amount // gpus, count - len(chosen))
                if len(chosen) == count:
                    break
        return chosen

    def _fullest(self, least: int) -> Iterator[tuple[int, str]]:
        for amount in sorted(amount for amount in self._names if amount >= least):
            for name in self._names[amount]:
                yield amount, name
