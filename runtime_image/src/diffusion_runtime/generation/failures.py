"""An exception in a rank, put into words: which reason, in which phase, how many bytes were asked and free.

Torch-free: judged by class names and texts, so that the parent's tests need no torch.
"""

from __future__ import annotations

import re

from diffusion_runtime.loading.refusal import EngineRefusal

from .messages import RankFailure

CUDA_OUT_OF_MEMORY = "CudaOutOfMemory"
HOST_OUT_OF_MEMORY = "InsufficientHostMemory"
RANK_LOST = "RankLost"
RANK_ERROR = "RankError"
RANK_HUNG = "RankHung"
RANK_DIED = "RankDied"
HOST_OOM_KILLED = "HostOOMKilled"
HOST_MEMORY_REASONS = frozenset({HOST_OUT_OF_MEMORY, HOST_OOM_KILLED})
MEMORY_REASONS = HOST_MEMORY_REASONS | {CUDA_OUT_OF_MEMORY}

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_CUDA_ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_CUDA_FREE = re.compile(r"of which ([\d.]+) (bytes|KiB|MiB|GiB) is free")
# Where memory runs out outside torch's allocator (context, kernels, libraries) there are no numbers.
_CUDA_FULL = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_TIMED_OUT = re.compile(r"Timed out waiting \d+ ?ms for|collective operation timeout")
_CPU_ASKED = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")


def describe(error: BaseException, phase: str, rank: int) -> RankFailure:
    """The failure a rank reports before it ends."""
    text = " ".join(str(error).split())
    if isinstance(error, EngineRefusal):
        return RankFailure(
            reason=error.reason,
            message=error.message,
            phase=phase,
            rank=rank,
            bytes_asked=error.bytes_asked,
            bytes_free=error.bytes_free,
            final=True,
        )
    if type(error).__name__ == "OutOfMemoryError" or any(words in text for words in _CUDA_FULL):
        asked, free = _bytes(_CUDA_ASKED, text), _bytes(_CUDA_FREE, text)
        return _failure(CUDA_OUT_OF_MEMORY, text, phase, rank, asked, free)
    match = _CPU_ASKED.search(text)
    if match or isinstance(error, MemoryError):
        return _failure(HOST_OUT_OF_MEMORY, text, phase, rank, int(match[1]) if match else None, None)
    if _TIMED_OUT.search(text):
        message = f"Rank {rank} waited for the other ranks longer than a collective may take: {text}"
        return _failure(RANK_HUNG, message, phase, rank, None, None)
    reason = RANK_LOST if _is_collective(error, text) else RANK_ERROR
    return _failure(reason, f"{type(error).__name__}: {text}", phase, rank, None, None)


def ends_rank(error: BaseException) -> bool:
    """Whether a rank is of no more use after this: memory, a lost peer, a broken device.

    Else only the picture failed.
    """
    failure = describe(error, "", 0)
    broken_device = "CUDA error" in failure.message or "NCCL" in failure.message
    return failure.reason != RANK_ERROR or broken_device


def _failure(
    reason: str, text: str, phase: str, rank: int, asked: int | None, free: int | None
) -> RankFailure:
    return RankFailure(
        reason=reason, message=text[:1000], phase=phase, rank=rank, bytes_asked=asked, bytes_free=free
    )


def _is_collective(error: BaseException, text: str) -> bool:
    """A collective that failed says that another rank is gone, not that this one is at fault."""
    return type(error).__name__.startswith("Dist") or any(
        word in text
        for word in ("Connection closed by peer", "gloo/transport", "NCCL", "Connection reset by peer")
    )


def _bytes(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return int(float(match[1]) * _UNITS[match[2]]) if match else None
