"""Frames between parent and rank, what a rank's exception means, and the container's last words."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from diffusion_runtime.generation.failures import describe, ends_rank
from diffusion_runtime.generation.messages import RankFailure
from diffusion_runtime.generation.wire import WireError, encode, read_frame, read_frame_async
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.parallel.environment import cpu_threads
from diffusion_runtime.server.termination import DEFAULT_PATH, termination_message, write_termination_message

FRAMES = [({"kind": "a"}, b""), ({"kind": "picture", "text": "ü\n"}, bytes(range(256)) * 40)]


class OutOfMemoryError(RuntimeError):
    """Named like torch's, so that this test needs no torch."""


def test_frames_come_back_as_sent() -> None:
    stream = io.BytesIO(b"".join(encode(header, body) for header, body in FRAMES))
    read = [read_frame(stream) for _ in range(3)]
    assert [(frame.header, frame.body) for frame in read if frame] == FRAMES
    assert read[2] is None


async def test_frames_come_back_over_asyncio_in_pieces() -> None:
    reader = asyncio.StreamReader()
    for byte in b"".join(encode(header, body) for header, body in FRAMES):
        reader.feed_data(bytes([byte]))
    reader.feed_eof()
    read = [await read_frame_async(reader) for _ in range(3)]
    assert [(frame.header, frame.body) for frame in read if frame] == FRAMES
    assert read[2] is None


@pytest.mark.parametrize("cut", range(1, 20))
def test_cut_stream_is_an_end_not_a_frame(cut: int) -> None:
    whole = encode({"kind": "x"}, b"body")
    assert read_frame(io.BytesIO(whole[:cut])) is None


@pytest.mark.parametrize(
    "data", [b"\xff" * 16, encode({"kind": "x"}).replace(b"{", b"["), b"\x00\x00\x00\x02\x00\x00\x00\x00[]"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_frame(io.BytesIO(data))


def test_cuda_out_of_memory_keeps_its_numbers() -> None:
    text = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has 79 GiB of which 512.00 MiB is free."
    failure = describe(OutOfMemoryError(text), "denoise", 1)
    assert (failure.reason, failure.phase, failure.rank) == ("CudaOutOfMemory", "denoise", 1)
    assert (failure.bytes_asked, failure.bytes_free) == (5 * 2**29, 2**29)
    assert not failure.final


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
    ],
)
def test_memory_that_runs_out_beside_torchs_allocator_is_out_of_memory_too(text: str) -> None:
    failure = describe(RuntimeError(text), "load", 0)
    assert (failure.reason, failure.bytes_asked) == ("CudaOutOfMemory", None)


def test_host_out_of_memory_keeps_its_number() -> None:
    text = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes. Error code 12"  # noqa: E501
    failure = describe(RuntimeError(text), "load", 0)
    assert (failure.reason, failure.bytes_asked) == ("InsufficientHostMemory", 4096)


def test_refusal_is_final_and_lost_peer_is_not_this_ranks_fault() -> None:
    assert describe(EngineRefusal("NoUsableGpu", "none"), "import", 0).final
    lost = RuntimeError("[/pytorch/third_party/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    assert describe(lost, "denoise", 0).reason == "RankLost"


def test_only_what_breaks_a_rank_ends_it() -> None:
    assert not ends_rank(ValueError("bad shape"))
    assert ends_rank(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert ends_rank(OutOfMemoryError("Tried to allocate 1 bytes"))


@pytest.mark.parametrize("letter", ["x", '"', "ü", "\u0001", "🎨"])
def test_last_words_fit_whatever_they_are(letter: str) -> None:
    failure = RankFailure(
        reason="CudaOutOfMemory", message=letter * 9000, phase="load", rank=0, bytes_asked=5, bytes_free=4
    )
    text = termination_message(failure)
    assert len(text) <= 4096
    document = json.loads(text)
    assert (document["reason"], document["phase"]) == ("CudaOutOfMemory", "load")
    assert (document["bytesAsked"], document["bytesFree"]) == (5, 4)
    assert document["message"].startswith(letter * 100)


def test_last_words_are_not_written_outside_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: False)
    write_termination_message(DEFAULT_PATH, RankFailure(reason="X", message="m", phase="p"))
    monkeypatch.undo()
    assert not DEFAULT_PATH.exists()


@pytest.mark.parametrize(("quota", "ranks", "threads"), [("150000 100000", 1, 1), ("50000 100000", 2, 1)])
def test_threads_follow_the_containers_cpu_quota(
    tmp_path: Path, quota: str, ranks: int, threads: int
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert cpu_threads(ranks, file) == threads
