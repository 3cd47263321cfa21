"""What a rank takes from its surroundings, and what one picture may cost it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from diffusion_runtime.generation import picture
from diffusion_runtime.generation.messages import Done, PictureFailed, StartRank
from diffusion_runtime.generation.rank import Channel, RankProcess
from diffusion_runtime.generation.wire import Frame
from diffusion_runtime.server.start import RANK_ARGUMENTS
from engine.fake_group import REQUEST
from engine.plans import cpu_execution


def test_rank_imports_nothing_from_the_users_folder(tmp_path: Path) -> None:
    (tmp_path / "pydantic.py").write_text("raise SystemExit(99)")
    done = subprocess.run(RANK_ARGUMENTS, cwd=tmp_path, input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b""), "its parent is gone, so it ends"


class Script:
    """A channel that gives commands and keeps the answers."""

    def __init__(self, *commands: dict[str, Any]) -> None:
        self.commands = list(commands)
        self.answers: list[Any] = []

    def receive(self) -> Frame:
        return Frame(self.commands.pop(0))

    def tell(self, document: Any, body: bytes = b"") -> None:
        self.answers.append(document)

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Signs of life are not kept."""


def test_picture_that_its_format_cannot_hold_costs_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """WebP ends at 16383 pixels."""
    start = StartRank(
        rank=0, execution=cpu_execution(), model_path="/m", rendezvous="/r", collective_timeout_s=1
    )
    draws = [REQUEST.model_copy(update={"output_format": name}).to_dict() for name in ("webp", "png")]
    commands = [{"kind": "draw", "request": request} for request in draws]
    script = Script(start.to_dict(), *commands, {"kind": "stop"})
    drawn = picture.Drawn(torch.zeros(1, 16_400, 16, 3, dtype=torch.uint8), {}, 1.0)
    monkeypatch.setattr(picture, "draw", lambda *_: drawn)
    monkeypatch.setattr(RankProcess, "_build", lambda *_: None)
    assert RankProcess(cast(Channel, script)).run() == 0
    assert [type(answer) for answer in script.answers] == [PictureFailed, Done]
