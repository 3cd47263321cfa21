"""A transformer whose repeated blocks stay on the host and pass through a few slots on the device.

One copy per block, on a stream of its own, ahead of use by the planned number of blocks; the last blocks of a
forward already fetch the first ones of the next. `resident_blocks`, evenly spread, never leave the device.
Everything outside the blocks is resident. On a CPU a copy is as real as on a GPU: into a slot of its own.
A block that is not in a slot has empty weights, so a missed move is an error and never a stale picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from diffusion_runtime.storage import Fill, Target, empty_like_on, host_bytes, lock, put

from .arena import PackedTensor, pack


class BlockState(Enum):
    """Where a block's weights are."""

    HOST = "host"
    COPYING = "copying"
    DEVICE = "device"
    RESIDENT = "resident"


@dataclass
class Slot:
    """Room for one block on the device. `block` is the one it holds or receives, None when free."""

    bytes: torch.Tensor
    views: dict[int, list[torch.Tensor]]
    block: int | None = None
    copied: torch.cuda.Event | None = None
    released: torch.cuda.Event | None = None


@dataclass(frozen=True)
class StreamedBlock:
    """One block's parameters and its bytes on the host."""

    parameters: tuple[torch.nn.Parameter, ...]
    places: tuple[PackedTensor, ...]
    host: torch.Tensor


def spread(blocks: int, chosen: int) -> frozenset[int]:
    """`chosen` of the indices 0..blocks-1, evenly spread. ValueError when there are fewer blocks."""
    if chosen > blocks:
        raise ValueError(f"{chosen} resident blocks were planned, the transformer has {blocks}")
    return frozenset(index * blocks // chosen for index in range(chosen))


class LayerwiseBlocks:
    """Owns the blocks' weights from construction on. Forwards work inside `in_use()` only.

    `module` holds the blocks and has parameters on the meta device; all of it is filled, in one call, with
    streamed blocks in one host arena and everything else on the device.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        blocks: Sequence[torch.nn.Module],
        prefetch: int,
        resident: int,
        device: torch.device,
        fill: Fill,
    ) -> None:
        self._device = device
        self._resident = spread(len(blocks), resident)
        self._order = [index for index in range(len(blocks)) if index not in self._resident]
        self._slot_count = min(1 + prefetch, len(self._order))
        self._empty: dict[torch.dtype, torch.Tensor] = {}
        self._slots: list[Slot] = []
        self._copies = _copy_stream(device)
        self._blocks = self._take(module, blocks, fill)
        for position, index in enumerate(self._order):
            blocks[index].register_forward_pre_hook(self._before(position))
            if self._slot_count < len(self._order):
                blocks[index].register_forward_hook(self._after(position))

    def states(self) -> list[BlockState]:
        """One state per block, in order."""
        states = [
            BlockState.RESIDENT if i in self._resident else BlockState.HOST
            for i in range(len(self._resident) + len(self._order))
        ]
        for slot in self._slots:
            if slot.block is not None:
                arrived = self._blocks[slot.block].parameters[0].numel() > 0
                states[self._order[slot.block]] = BlockState.DEVICE if arrived else BlockState.COPYING
        return states

    def host_bytes(self) -> int:
        """Bytes of the host arena."""
        return sum(block.host.nbytes for block in self._blocks)

    def slot_bytes(self) -> int:
        """Bytes of all slots on the device; 0 outside `in_use()`."""
        return sum(slot.bytes.nbytes for slot in self._slots)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Slots exist inside; the first blocks are on their way when it is entered."""
        size = max((block.host.nbytes for block in self._blocks), default=0)
        self._slots = [Slot(self._allocate(size), {}) for _ in range(self._slot_count)]
        try:
            if self._copies is not None:
                # The slots' memory may still be read by kernels queued before they were allocated.
                self._copies.wait_stream(torch.cuda.current_stream(self._device))
            for position in range(self._slot_count):
                self._fetch(position)
            yield
        finally:
            self._leave()

    def _take(
        self, module: torch.nn.Module, blocks: Sequence[torch.nn.Module], fill: Fill
    ) -> list[StreamedBlock]:
        """Streamed blocks into the arena, emptying each; everything else onto the device for good."""
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        streamed = [list(blocks[index].parameters()) for index in self._order]
        packed = [pack(parameters) for parameters in streamed]
        self._arena = host_bytes(sum(size for _, size in packed))
        storage: dict[str, torch.Tensor] = {}
        targets: list[Target] = []
        pieces = torch.split(self._arena, [size for _, size in packed]) if packed else ()
        for parameters, (places, _), piece in zip(streamed, packed, pieces, strict=True):
            for parameter, place in zip(parameters, places, strict=True):
                name = names[id(parameter)]
                targets.append((name, place.view(piece), 0))
                storage[name] = self._nothing(parameter.dtype)
        for name, parameter in module.named_parameters():
            if name not in storage:
                storage[name] = empty_like_on(parameter, self._device)
                targets.append((name, storage[name], 0))
        fill(targets)
        lock(self._arena, self._device)
        put(module, storage)
        for buffer in module.buffers():
            buffer.data = buffer.data.to(self._device)
        return [
            StreamedBlock(tuple(blocks[index].parameters()), places, piece)
            for index, (places, _), piece in zip(self._order, packed, pieces, strict=True)
        ]

    def _before(self, position: int) -> Any:
        def hook(*_: Any) -> None:
            if not self._slots:
                raise RuntimeError("a streamed transformer was called outside of its time of use")
            slot = self._slot_of(position) or self._fetch(position)
            if slot.copied is not None:
                torch.cuda.current_stream(self._device).wait_event(slot.copied)
            block = self._blocks[position]
            if position not in slot.views:
                slot.views[position] = [place.view(slot.bytes) for place in block.places]
            for parameter, view in zip(block.parameters, slot.views[position], strict=True):
                parameter.data = view

        return hook

    def _after(self, position: int) -> Any:
        def hook(*_: Any) -> None:
            slot = self._slot_of(position)
            assert slot is not None  # noqa: S101  # _before put it there
            self._release(slot)
            self._fetch((position + self._slot_count) % len(self._order))

        return hook

    def _fetch(self, position: int) -> Slot:
        """Start the copy of one block into a free slot."""
        held = self._slot_of(position)
        if held is not None:
            return held
        slot = next(slot for slot in self._slots if slot.block is None)
        slot.block = position
        source = self._blocks[position].host
        if self._copies is None:
            slot.bytes[: source.nbytes].copy_(source)
            return slot
        with torch.cuda.stream(self._copies):
            if slot.released is not None:
                self._copies.wait_event(slot.released)
            slot.bytes[: source.nbytes].copy_(source, non_blocking=True)
            slot.copied = self._copies.record_event(slot.copied)
        return slot

    def _release(self, slot: Slot) -> None:
        """Its block is on the host only again; it may be overwritten once the work queued so far has run."""
        if slot.block is not None:
            self._empty_block(slot.block)
        slot.block = None
        if self._copies is not None:
            slot.released = torch.cuda.current_stream(self._device).record_event(slot.released)

    def _leave(self) -> None:
        """Every weight back to the host only, also after an error in the middle of a forward."""
        for slot in self._slots:
            self._release(slot)
        if self._copies is not None:
            # Whoever gets the slots' memory next must not meet a copy that is still on its way.
            torch.cuda.current_stream(self._device).wait_stream(self._copies)
        self._slots = []
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # the next phase plans with these bytes

    def _allocate(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self._device)

    def _slot_of(self, position: int) -> Slot | None:
        return next((slot for slot in self._slots if slot.block == position), None)

    def _empty_block(self, position: int) -> None:
        for parameter in self._blocks[position].parameters:
            parameter.data = self._nothing(parameter.dtype)

    def _nothing(self, dtype: torch.dtype) -> torch.Tensor:
        return self._empty.setdefault(dtype, torch.empty(0, dtype=dtype))


def _copy_stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def stream_blocks(
    module: torch.nn.Module,
    blocks: Sequence[torch.nn.Module],
    prefetch: int,
    resident: int,
    device: torch.device,
    fill: Fill,
) -> LayerwiseBlocks:
    """Stream `blocks` of `module` (without storage yet); everything else of it stays on the device."""
    return LayerwiseBlocks(module, blocks, prefetch, resident, device, fill)
