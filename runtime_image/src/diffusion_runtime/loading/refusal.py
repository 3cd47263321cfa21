"""The one exception for a plan or model that this engine must not start with.

It carries what the operator reads.
"""

from __future__ import annotations


class EngineRefusal(Exception):
    """Nothing was loaded and nothing will be: `reason` is a CamelCase condition reason, the text one
    sentence.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
