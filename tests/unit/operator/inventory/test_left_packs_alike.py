"""Ordered amounts pack as the plain rule does, whatever was taken before; counting agrees with packing."""

from __future__ import annotations

import random

import pytest

from diffusion_operator.inventory.claims import pack, places
from diffusion_operator.inventory.left import Left


@pytest.mark.parametrize("seed", range(20))
def test_as_the_plain_rule(seed: int) -> None:
    chance = random.Random(seed)
    amounts = {f"n{number:02}": chance.randrange(9) for number in range(chance.randrange(1, 30))}
    left = Left(amounts)
    for _ in range(60):
        name = chance.choice(["unknown", *amounts])
        amount = chance.randrange(9)
        other = left.copy()
        left.set(name, amount)
        assert other.amounts == amounts  # a copy does not follow
        if name in amounts:
            amounts[name] = amount
        gpus, count = chance.randrange(5), chance.randrange(-1, 12)
        without = set(chance.sample(sorted(amounts), chance.randrange(len(amounts))))
        elsewhere = {name: amount for name, amount in amounts.items() if name not in without}
        assert left.pack(gpus, count, without=without) == pack(elsewhere, gpus, count)
        assert places(amounts.values(), gpus, count) == len(pack(amounts, gpus, count))
    assert left.amounts == amounts
