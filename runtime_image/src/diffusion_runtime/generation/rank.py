"""The rank process: `python -m diffusion_runtime.generation.rank`, frames on stdin, frames on stdout, logs on
stderr.

It holds torch, draws what it is told and dies with its parent. It decides nothing: any failure is reported
and ends it.
torch is imported after the first frame, so that the parent hears of the rank at once.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from diffusion_runtime.parallel.environment import allocator_settings
from diffusion_runtime.planning.documents import Document
from diffusion_runtime.planning.explain import format_bytes

from .failures import describe, ends_rank
from .messages import Done, PictureFailed, PictureRequest, Ready, StartRank, drawn_request
from .wire import Frame, encode, read_frame

if TYPE_CHECKING:
    from .build import BuiltPipeline

VERSIONED = ("diffusion-runtime", "torch", "diffusers", "transformers")


class Channel:
    """Both directions of the pipe. A thread reads, so that pings are answered while the rank computes."""

    def __init__(self, commands: BinaryIO, replies: BinaryIO) -> None:
        self._commands = commands
        self._replies = replies
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Write one frame, whole."""
        with self._lock:
            self._replies.write(encode(header, body))
            self._replies.flush()

    def tell(self, document: Document, body: bytes = b"") -> None:
        """Send a document."""
        self.send(document.to_dict(), body)

    def receive(self) -> Frame:
        """The next command, pings left out."""
        return self._inbox.get()

    def _read(self) -> None:
        try:
            while (frame := read_frame(self._commands)) is not None:
                if frame.kind == "ping":
                    self.send({"kind": "pong"})
                else:
                    self._inbox.put(frame)
        finally:
            # The parent is gone. A rank in a collective or a long kernel must not outlive it.
            os._exit(0)


class RankProcess:
    """One rank from its start frame to its end."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._phase = "import"

    def run(self) -> int:
        """Exit code 0 after `stop`, 1 after a reported failure."""
        start = StartRank.model_validate(self._channel.receive().header)
        try:
            built = self._build(start)
            while (frame := self._channel.receive()).kind == "draw":
                self._draw(built, drawn_request(frame.header, frame.body))
        except Exception as error:  # noqa: BLE001  # reported to the parent, which decides; the rank ends
            self._channel.tell(describe(error, self._phase, start.rank))
            return 1
        return 0

    def _build(self, start: StartRank) -> BuiltPipeline:
        self._enter("import")
        started = time.monotonic()
        import torch

        from diffusion_runtime.loading.record import LoadRecord
        from diffusion_runtime.parallel.ranks import join

        from .build import build, rank_device
        from .measure import Measurements
        from .warm import warm

        _quiet_libraries()
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        imported = time.monotonic()
        device = rank_device(start.execution, start.rank)
        self._enter("join")
        world_size = start.execution.layout.ranks
        join(Path(start.rendezvous), start.rank, world_size, device, start.collective_timeout_s)
        self._enter("load")
        measured = Measurements(device)
        record = LoadRecord(self._loaded)
        record.seconds["import"] = imported - started
        with measured.phase("load"):
            built = build(start.model_path, start.execution, start.rank, device, record)
        with record.stage("warm"):
            warm(built, start.shapes, start.guidance, lambda _, step: self._enter("warm", step))
        versions = {name: version(name) for name in VERSIONED}
        self._channel.tell(
            Ready(
                load=measured.phases["load"],
                stages=dict(record.seconds),
                loaded_bytes=record.bytes_read,
                versions=versions,
                allocator=allocator_settings() if device.type == "cuda" else None,
            )
        )
        return built

    def _draw(self, built: BuiltPipeline, request: PictureRequest) -> None:
        from .encoding import encode
        from .picture import draw
        from .undrawable import UndrawablePicture

        try:
            drawn = draw(built, request, self._enter)
            body = b""
            if drawn.pixels is not None:
                self._enter("encode")
                body = encode(drawn.pixels, drawn.sound, request)
        except UndrawablePicture as error:
            self._channel.tell(PictureFailed(message=str(error), field=error.field))
            return
        except Exception as error:
            if ends_rank(error):
                raise
            # A bug met by this request alone: the request pays for it, the group goes on.
            self._channel.tell(PictureFailed(message=f"{type(error).__name__}: {error}"[:1000]))
            return
        done = Done(phases=drawn.phases, seconds_per_step=drawn.seconds_per_step, compiled=drawn.compiled)
        self._channel.tell(done, body)

    def _loaded(self, done: int, total: int) -> None:
        """Start-up is judged by this: a slow disk is no hang."""
        self._enter("load", 100 * done // max(total, 1))
        sys.stderr.write(f"loading: {format_bytes(done)} of {format_bytes(total)}\n")
        sys.stderr.flush()

    def _enter(self, phase: str, step: int = 0) -> None:
        self._phase = phase
        self._channel.send({"kind": "phase", "phase": phase, "step": step})


def _quiet_libraries() -> None:
    """No progress bars in a container's log, and no advice on masks that the pipeline itself leaves out."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def claim_stdout() -> BinaryIO:
    """The real stdout as the reply pipe; whatever a library prints goes to stderr from now on."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def main() -> int:
    """Entry point of the process."""
    return RankProcess(Channel(sys.stdin.buffer, claim_stdout())).run()


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # No interpreter teardown: a process group whose other ranks are gone can hang in its destructor.
    os._exit(code)
