"""A bell that rings the same however urgent the hint is."""

from __future__ import annotations

from collections.abc import Callable

from diffusion_operator.reconcile.keys import Key


class OneBell:
    """Calls `ring` for every hint."""

    def __init__(self, ring: Callable[[Key], None]) -> None:
        self.now = self.soon = self.changed = self.renewed = ring
