"""What is wrong with a request itself, apart from everything that is the rank's failure."""

from __future__ import annotations


class UndrawablePicture(RuntimeError):
    """This request gives no picture; the rank is fine.

    `field` is the request field at fault, None for a bug of ours.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
