"""Reads tensors from files into storage that exists: several threads, large chunks, no copy in between.

Host storage is read into directly. For a GPU each thread has a small ring of page-locked memory and a stream
of its own, so that one chunk is read while the chunk before it is copied. A cast happens where the tensor is
going: on a GPU it is hidden behind the copies. Plain reads through the page cache: no driver, no library.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from diffusion_runtime.storage import lock

from .folder import BROKEN_FOLDER
from .refusal import EngineRefusal

CHUNK_BYTES = 16 * 2**20
THREADS = 12
"""A probe on one H200 reached 33 GB/s with 8 threads and 38 with 12 (host link 55)."""
SLOTS_PER_THREAD = 2
BytesRead = Callable[[int], None]


@dataclass(frozen=True)
class Read:
    """`target` (contiguous) becomes the elements stored as `dtype` from byte `offset` of the file on."""

    path: Path
    offset: int
    dtype: torch.dtype
    target: torch.Tensor


@dataclass(frozen=True)
class Chunk:
    """A piece of one `Read` that fits into `CHUNK_BYTES`; `target` is flat."""

    path: Path
    descriptor: int
    offset: int
    dtype: torch.dtype
    target: torch.Tensor

    @property
    def stored_bytes(self) -> int:
        """Bytes in the file."""
        return self.target.numel() * self.dtype.itemsize


def thread_count() -> int:
    """As many as this process may run at once, at most `THREADS`; two where it has one CPU, to overlap."""
    return max(2, min(THREADS, len(os.sched_getaffinity(0))))


def read_all(reads: Sequence[Read], on_bytes: BytesRead = lambda _: None, threads: int | None = None) -> None:
    """Do all reads; every target is complete when it returns, on a GPU as well. Targets on one device.

    `on_bytes(n)` is called after every n bytes, from any thread. Raises EngineRefusal naming a file that is
    shorter than promised or cannot be read; the other threads stop.
    """
    with ExitStack() as files:
        chunks = list(_chunks(reads, files))
        if not chunks:
            return
        count = min(threads or thread_count(), len(chunks))
        work = _Work(chunks, on_bytes)
        device = chunks[0].target.device
        before = torch.cuda.current_stream(device) if device.type == "cuda" else None
        crew = [threading.Thread(target=work.run, args=(device, before)) for _ in range(count)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
    if work.failure is not None:
        raise work.failure


def _chunks(reads: Sequence[Read], files: ExitStack) -> Iterator[Chunk]:
    """In the order of the files, which is the order disks like."""
    opened: dict[Path, int] = {}
    for read in sorted(reads, key=lambda read: (str(read.path), read.offset)):
        if read.path not in opened:
            opened[read.path] = _open(read.path)
            files.callback(os.close, opened[read.path])
        flat = read.target.detach().view(-1)
        step = CHUNK_BYTES // read.dtype.itemsize
        for start in range(0, flat.numel(), step):
            offset = read.offset + start * read.dtype.itemsize
            yield Chunk(read.path, opened[read.path], offset, read.dtype, flat[start : start + step])


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise EngineRefusal(BROKEN_FOLDER, f"{path} cannot be read: {error.strerror}.") from error


class _Work:
    """Chunks that threads take one after the other, and the first failure."""

    def __init__(self, chunks: Sequence[Chunk], on_bytes: BytesRead) -> None:
        self.failure: BaseException | None = None
        self._chunks = iter(chunks)
        self._on_bytes = on_bytes
        self._lock = threading.Lock()

    def run(self, device: torch.device, before: torch.cuda.Stream | None) -> None:
        """One thread's part."""
        try:
            with torch.no_grad():
                if before is None:
                    self._to_host()
                else:
                    self._to_gpu(device, before)
        except BaseException as error:  # noqa: BLE001  # raised again by the caller's thread
            with self._lock:
                self.failure = self.failure or error

    def _each(self) -> Iterator[Chunk]:
        while True:
            with self._lock:
                chunk = None if self.failure else next(self._chunks, None)
            if chunk is None:
                return
            yield chunk
            self._on_bytes(chunk.stored_bytes)

    def _to_host(self) -> None:
        scratch = torch.empty(0, dtype=torch.uint8)
        for chunk in self._each():
            if chunk.target.dtype == chunk.dtype:
                read_exactly(chunk, chunk.target.view(torch.uint8))
                continue
            if not scratch.nbytes:
                scratch = torch.empty(CHUNK_BYTES, dtype=torch.uint8)
            stored = scratch[: chunk.stored_bytes]
            read_exactly(chunk, stored)
            chunk.target.copy_(stored.view(chunk.dtype))

    def _to_gpu(self, device: torch.device, before: torch.cuda.Stream) -> None:
        torch.cuda.set_device(device)
        ring = torch.empty(SLOTS_PER_THREAD * CHUNK_BYTES, dtype=torch.uint8)
        ring.zero_()
        lock(ring, device)
        slots = torch.split(ring, CHUNK_BYTES)
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        copied = [torch.cuda.Event() for _ in slots]  # type: ignore[no-untyped-call]
        # Targets may lie in memory that kernels queued before still use.
        stream.wait_stream(before)
        with torch.cuda.stream(stream):
            for turn, chunk in enumerate(self._each()):
                slot = turn % len(slots)
                copied[slot].synchronize()
                stored = slots[slot][: chunk.stored_bytes]
                read_exactly(chunk, stored)
                if chunk.target.dtype == chunk.dtype:
                    chunk.target.view(torch.uint8).copy_(stored, non_blocking=True)
                else:
                    # The allocator gives this memory back to this stream only: no later chunk is hurt.
                    chunk.target.copy_(stored.to(device, non_blocking=True).view(chunk.dtype))
                copied[slot].record(stream)
        stream.synchronize()


def read_exactly(chunk: Chunk, into: torch.Tensor) -> None:
    """Fill `into` (uint8, on the host) with the chunk's bytes."""
    left = memoryview(into.numpy())  # type: ignore[arg-type]
    offset = chunk.offset
    while left:
        try:
            got = os.preadv(chunk.descriptor, [left], offset)
        except OSError as error:
            raise EngineRefusal(
                BROKEN_FOLDER, f"{chunk.path} cannot be read at byte {offset}: {error.strerror}."
            ) from error
        if got == 0:
            raise EngineRefusal(BROKEN_FOLDER, f"{chunk.path} ends at byte {offset}, within a tensor.")
        left, offset = left[got:], offset + got
