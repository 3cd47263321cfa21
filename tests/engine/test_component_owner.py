"""One component at a time on the device: it comes when it is called, and the one before it leaves first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from diffusion_runtime.residency.owner import ComponentOwner


class Vae(torch.nn.Module):
    def encode(self, value: int) -> int:
        return value + 1

    def decode(self, value: int) -> int:
        return value - 1


class Room:
    """Three components whose moves are written down."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.owner = ComponentOwner(torch.device("cpu"))
        self.text, self.transformer, self.vae = torch.nn.Identity(), torch.nn.Identity(), Vae()
        self.owner.add("text_encoder", self.text, lambda: self.moved("text_encoder"), "text", moves=True)
        self.owner.add(
            "transformer", self.transformer, lambda: self.moved("transformer"), "denoise", moves=True
        )
        self.owner.add("vae", self.vae, lambda: self.moved("vae"), "decode", moves=True)

    @contextmanager
    def moved(self, name: str) -> Iterator[None]:
        self.seen.append(f"+{name}")
        try:
            yield
        except RuntimeError as error:
            self.seen.append(f"{name} met {error}")
            raise
        finally:
            self.seen.append(f"-{name}")

    def used(self, name: str, phase: str) -> None:
        self.seen.append(f"{phase}:{name}")


def test_calls_move_components_and_name_phases() -> None:
    room = Room()
    with room.owner.one_request(room.used):
        room.text(1)
        room.text(2)
        assert room.vae.encode(1) == 2
        for _ in range(3):
            room.transformer(1)
        assert room.owner.on_device == "transformer"
        assert room.vae.decode(1) == 0
    assert room.seen == [
        "text:text_encoder",
        "+text_encoder",
        "-text_encoder",
        "text:vae",
        "+vae",
        "-vae",
        "denoise:transformer",
        "+transformer",
        "-transformer",
        "decode:vae",
        "+vae",
        "-vae",
    ]
    assert room.owner.on_device is None


def test_component_is_never_used_outside_of_a_request() -> None:
    room = Room()
    with pytest.raises(RuntimeError, match="transformer was called outside of a request"):
        room.transformer(1)
    with room.owner.one_request(room.used):
        second = room.owner.one_request(room.used)
        with pytest.raises(RuntimeError, match="before the one before it ended"):
            second.__enter__()


def break_off(room: Room) -> None:
    with room.owner.one_request(room.used):
        room.transformer(1)
        raise RuntimeError("stop")


def test_error_sends_away_what_is_there_and_tells_it() -> None:
    room = Room()
    with pytest.raises(RuntimeError, match="stop"):
        break_off(room)
    assert room.seen[-2:] == ["transformer met stop", "-transformer"]
    with room.owner.one_request(room.used):
        room.transformer(1)
    assert room.seen[-1] == "-transformer"
