"""Blocks streamed through slots: same picture, memory as planned, and no move that comes late or never."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diffusion_runtime.generation.build import build
from diffusion_runtime.planning.documents import Residency
from diffusion_runtime.residency.arena import pack
from diffusion_runtime.residency.layerwise import BlockState, LayerwiseBlocks, Slot, spread, stream_blocks
from engine.filled import emptied
from engine.parity_ranks import latents_of
from engine.plans import COMPONENTS, DEMO, cpu_execution

CPU = torch.device("cpu")
HOST, COPYING, DEVICE, RESIDENT = BlockState
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)")]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def resident() -> dict[str, torch.Tensor]:
    return latents_of(cpu_execution())


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot is NaN from its allocation and again from each release on: no stale weight looks right."""
    release, allocate = LayerwiseBlocks._release, LayerwiseBlocks._allocate

    def poisoned(self: LayerwiseBlocks, slot: Slot) -> None:
        release(self, slot)
        slot.bytes.fill_(255)

    monkeypatch.setattr(LayerwiseBlocks, "_release", poisoned)
    monkeypatch.setattr(LayerwiseBlocks, "_allocate", lambda self, size: allocate(self, size).fill_(255))


def layerwise(prefetch: int, kept: int) -> Any:
    residency = {name: Residency(mode="component") for name in COMPONENTS}
    residency["transformer"] = Residency(mode="layerwise", prefetch_blocks=prefetch, resident_blocks=kept)
    return cpu_execution(residency=residency)


@pytest.mark.parametrize(
    ("prefetch", "kept"), [(0, 0), (1, 0), (1, 3), (2, 2), (3, 1), (9, 0), (1, 5), (1, 6)]
)
def test_draws_what_resident_draws_bit_for_bit(
    resident: dict[str, torch.Tensor], prefetch: int, kept: int
) -> None:
    """The demo's transformer has six blocks."""
    drawn = latents_of(layerwise(prefetch, kept))
    for request in ("guided", "plain"):
        assert torch.equal(drawn[request], resident[request])


def test_all_ones_is_nan() -> None:
    """What `poison` relies on."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert torch.full((8,), 255, dtype=torch.uint8).view(dtype).isnan().all()


class Block(torch.nn.Module):
    """Adds its own number; notes all states while it runs."""

    def __init__(self, number: int, seen: list[list[BlockState]]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3, 5), float(number)))
        self.bias = torch.nn.Parameter(torch.zeros(5, dtype=torch.bfloat16))
        self.register_buffer("scale", torch.ones(5))
        self.seen = seen
        self.owner: LayerwiseBlocks | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.owner is not None
        self.seen.append(self.owner.states())
        return x + self.weight.sum() * self.scale.mean() + self.bias.sum()


def chain(count: int, prefetch: int, kept: int) -> tuple[torch.nn.Sequential, LayerwiseBlocks, list[Any]]:
    seen: list[list[BlockState]] = []
    model = torch.nn.Sequential(*(Block(number, seen) for number in range(count)))
    model.requires_grad_(False)
    owner = stream_blocks(model, list(model), prefetch, kept, CPU, emptied(model))
    for block in model:
        block.owner = owner
    return model, owner, seen


def test_states_while_blocks_pass_through() -> None:
    model, owner, seen = chain(5, prefetch=1, kept=1)
    assert owner.states() == [RESIDENT, HOST, HOST, HOST, HOST]
    with owner.in_use():
        for _ in range(2):
            assert model(torch.zeros(1)).item() == 15 * (0 + 1 + 2 + 3 + 4)
    assert owner.states() == [RESIDENT, HOST, HOST, HOST, HOST]
    first = [
        [RESIDENT, COPYING, COPYING, HOST, HOST],
        [RESIDENT, DEVICE, COPYING, HOST, HOST],
        [RESIDENT, HOST, DEVICE, COPYING, HOST],
        [RESIDENT, HOST, HOST, DEVICE, COPYING],
        [RESIDENT, COPYING, HOST, HOST, DEVICE],
    ]
    assert seen == first * 2, "the second forward finds its first blocks on their way"


def test_memory_is_one_arena_and_the_planned_slots() -> None:
    model, owner, _ = chain(6, prefetch=2, kept=2)
    block = 64 + 64  # 15 float32 and 5 bfloat16, each padded to 64 bytes
    assert owner.host_bytes() == 4 * block
    assert owner.slot_bytes() == 0
    with owner.in_use():
        assert owner.slot_bytes() == 3 * block
    assert owner.slot_bytes() == 0
    assert sum(p.numel() for p in model.parameters()) == 2 * 20, "streamed blocks hold nothing between phases"


def test_error_inside_a_forward_leaves_nothing_on_the_device() -> None:
    def stop(*_: Any) -> None:
        raise RuntimeError("stop")

    model, owner, _ = chain(4, prefetch=1, kept=0)
    failing = model[2].register_forward_pre_hook(stop)
    with pytest.raises(RuntimeError, match="stop"), owner.in_use():
        model(torch.zeros(1))
    assert set(owner.states()) == {HOST}
    failing.remove()
    with owner.in_use():
        assert model(torch.zeros(1)).item() == 15 * 6


def test_missing_copy_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The poison works: a block whose copy was forgotten computes NaN."""

    def forgets(self: LayerwiseBlocks, position: int) -> Slot:
        slot = next(slot for slot in self._slots if slot.block is None)
        slot.block = position
        return slot

    model, owner, _ = chain(4, prefetch=1, kept=0)
    monkeypatch.setattr(LayerwiseBlocks, "_fetch", forgets)
    with owner.in_use():
        assert model(torch.zeros(1)).isnan().all()


def test_forward_outside_of_use_is_an_error() -> None:
    model, _, _ = chain(4, prefetch=1, kept=0)
    with pytest.raises(RuntimeError, match="outside"):
        model(torch.zeros(1))


@pytest.mark.parametrize(
    ("blocks", "kept", "which"), [(6, 0, []), (6, 3, [0, 2, 4]), (5, 2, [0, 2]), (4, 4, [0, 1, 2, 3])]
)
def test_resident_blocks_are_spread_evenly(blocks: int, kept: int, which: list[int]) -> None:
    assert sorted(spread(blocks, kept)) == which


def test_more_resident_blocks_than_blocks() -> None:
    with pytest.raises(ValueError, match="7 resident blocks were planned, the transformer has 6"):
        spread(6, 7)


def test_weights_keep_their_dtype_and_share_the_arena() -> None:
    tensors = [torch.randn(3, 5), torch.randn(7).bfloat16(), torch.randn(())]
    places, size = pack(tensors)
    arena = torch.empty(size, dtype=torch.uint8)
    assert (arena.nbytes, size) == (3 * 64, 3 * 64)
    for place, tensor in zip(places, tensors, strict=True):
        place.view(arena).copy_(tensor)
    for place, tensor in zip(places, tensors, strict=True):
        assert torch.equal(place.view(arena), tensor)
        assert place.view(arena).dtype == tensor.dtype


def test_text_encoder_and_vae_of_a_streamed_pipeline_are_untouched() -> None:
    built = build(str(DEMO), layerwise(1, 0), 0, CPU)
    assert all(p.numel() for p in built.pipeline.vae.parameters())
    outside = [p for name, p in built.pipeline.transformer.named_parameters() if "blocks" not in name]
    assert outside
    assert all(p.numel() for p in outside)
