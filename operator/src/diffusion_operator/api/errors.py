"""The one error of this package: a spec that its user has to change."""

from __future__ import annotations


class InvalidSpec(ValueError):
    """The spec cannot be accepted.

    `field` is a path such as `spec.performance.bias`; `str()` is one sentence.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
