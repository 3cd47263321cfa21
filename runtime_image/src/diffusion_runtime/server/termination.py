"""The last words of a container: JSON of at most 4096 bytes where Kubernetes looks for them (pod status,
describe).
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from diffusion_runtime.generation.messages import RankFailure

DEFAULT_PATH = Path("/dev/termination-log")
MAX_BYTES = 4096
EXIT_REFUSED = 2  # the plan or the model is at fault: a restart gives the same
EXIT_FAILED = 1  # the engine is: a restart may help

logger = logging.getLogger(__name__)


class EngineEnded(Exception):
    """The engine cannot go on: exit code and the failure to report."""

    def __init__(self, exit_code: int, failure: RankFailure) -> None:
        super().__init__(failure.message)
        self.exit_code = exit_code
        self.failure = failure


def unforeseen(error: Exception, phase: str) -> RankFailure:
    """What nothing else put into words: a bug of ours, or a system that refuses files or processes."""
    message = f"The engine met an error it does not expect: {type(error).__name__}: {error}"
    return RankFailure(reason="CrashLoop", message=message[:1000], phase=phase)


def termination_message(failure: RankFailure) -> bytes:
    """Reason, phase, message, rank, bytes asked and free, as JSON within `MAX_BYTES`."""
    document = failure.model_dump(by_alias=True, include=KEYS, mode="json")
    text = json.dumps(document, ensure_ascii=False).encode()
    if len(text) > MAX_BYTES:
        # JSON may spend twelve bytes on one character of the message (two escapes, as for an emoji).
        document["message"] = failure.message[: (MAX_BYTES - 512) // 12]
        text = json.dumps(document, ensure_ascii=True).encode()
    return text


KEYS = {"reason", "phase", "message", "rank", "bytes_asked", "bytes_free", "executing_hash"}


def write_termination_message(path: Path, failure: RankFailure) -> None:
    """Write it where it is wanted. The default path is used only where the container has it."""
    if path == DEFAULT_PATH and not path.exists():
        return
    try:
        path.write_bytes(termination_message(failure))
    except OSError as error:
        logger.error("cannot write the termination message to %s: %s", path, error.strerror)
