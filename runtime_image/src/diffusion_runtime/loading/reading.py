"""Reads tensors from files into storage that exists: several threads, large chunks, no copy in between.

Host storage is read into directly. For a GPU each thread has a small ring of page-locked memory and a stream
of its own, so that one chunk is read while the chunk before it is copied. A cast happens where the tensor is
going: on a GPU it is hidden behind the copies. Plain reads through the page cache: no driver, no library.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """Do all reads; every target is complete when it returns, on a GPU as well.

    `on_bytes(n)` is called after every n bytes, from any thread. Raises EngineRefusal naming a file that is
    shorter than promised or cannot be read; the other threads stop.
    """
    with ExitStack() as files:
        chunks = list(_chunks(reads, files))
        devices = {read.target.device for read in reads if read.target.is_cuda}
        work = _Work(chunks, on_bytes, {device: torch.cuda.current_stream(device) for device in devices})
        crew = [threading.Thread(target=work.run) for _ in range(min(threads or thread_count(), len(chunks)))]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
    if devices:
        torch.cuda.empty_cache()  # what casts took from the allocator, on streams that are no more
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
    """Chunks that threads take one after the other, and the first failure.

    `before`: per GPU the stream whose queued kernels may still use the memory of the targets.
    """

    def __init__(
        self, chunks: Sequence[Chunk], on_bytes: BytesRead, before: Mapping[torch.device, torch.cuda.Stream]
    ) -> None:
        self.failure: BaseException | None = None
        self._chunks = iter(chunks)
        self._on_bytes = on_bytes
        self._before = before
        self._lock = threading.Lock()

    def run(self) -> None:
        """One thread's part."""
        try:
            with torch.no_grad(), ExitStack() as rings:
                self._take(rings)
        except BaseException as error:  # noqa: BLE001  # raised again by the caller's thread
            with self._lock:
                self.failure = self.failure or error

    def _take(self, rings: ExitStack) -> None:
        """Chunks until there are none; what it has begun on a GPU is complete when `rings` closes."""
        of_device: dict[torch.device, _Ring] = {}
        scratch = torch.empty(0, dtype=torch.uint8)
        while (chunk := self._next()) is not None:
            device = chunk.target.device
            if device.type == "cuda":
                if device not in of_device:
                    of_device[device] = _Ring(device, self._before[device])
                    rings.callback(of_device[device].finish)
                of_device[device].bring(chunk)
            elif chunk.target.dtype == chunk.dtype:
                read_exactly(chunk, chunk.target.view(torch.uint8))
            else:
                scratch = scratch if scratch.nbytes else torch.empty(CHUNK_BYTES, dtype=torch.uint8)
                stored = scratch[: chunk.stored_bytes]
                read_exactly(chunk, stored)
                chunk.target.copy_(stored.view(chunk.dtype))
            self._on_bytes(chunk.stored_bytes)

    def _next(self) -> Chunk | None:
        with self._lock:
            return None if self.failure else next(self._chunks, None)


class _Ring:
    """Page-locked slots of one thread on the way to one GPU: one is read into while another is copied."""

    def __init__(self, device: torch.device, before: torch.cuda.Stream) -> None:
        torch.cuda.set_device(device)
        self._memory = torch.zeros(SLOTS_PER_THREAD * CHUNK_BYTES, dtype=torch.uint8)
        lock(self._memory, device)
        self._slots = torch.split(self._memory, CHUNK_BYTES)
        self._copied = [torch.cuda.Event(blocking=True) for _ in self._slots]  # type: ignore[no-untyped-call]
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(before)
        self._turn = 0

    def bring(self, chunk: Chunk) -> None:
        """Read into the next slot, start its copy. A cast runs behind the copy, on the GPU."""
        slot = self._turn % len(self._slots)
        self._turn += 1
        self._copied[slot].synchronize()
        stored = self._slots[slot][: chunk.stored_bytes]
        read_exactly(chunk, stored)
        with torch.cuda.stream(self._stream):
            if chunk.target.dtype == chunk.dtype:
                chunk.target.view(torch.uint8).copy_(stored, non_blocking=True)
            else:
                # Memory of this stream: given back, it can only be taken by the next cast of this thread.
                there = stored.to(chunk.target.device, non_blocking=True)
                chunk.target.copy_(there.view(chunk.dtype))
            self._copied[slot].record(self._stream)

    def finish(self) -> None:
        """Wait for the last copies: the slots must outlive them."""
        self._stream.synchronize()


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
            size = os.fstat(chunk.descriptor).st_size
            raise EngineRefusal(
                BROKEN_FOLDER, f"{chunk.path} is truncated: it has {size} bytes and a tensor goes on beyond."
            )
        left, offset = left[got:], offset + got
