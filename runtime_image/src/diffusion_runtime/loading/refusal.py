"""The one exception for a plan or model that this engine must not start with.

It carries what the operator reads.
"""

from __future__ import annotations


class EngineRefusal(Exception):
    """Nothing was loaded and nothing will be: `reason` is a CamelCase condition reason, the text one
    sentence. Bytes asked and free are given where memory is what lacks.
    """

    def __init__(
        self, reason: str, message: str, bytes_asked: int | None = None, bytes_free: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.bytes_asked = bytes_asked
        self.bytes_free = bytes_free
