"""A transformer's weights sharded over all ranks (FSDP2): each block is gathered just before it computes.

Also under CFG parallel, where both branches run the same blocks in the same order. The next unit is gathered
while one computes; the part outside the blocks stays gathered until the denoise phase ends. Residency hooks,
compilation and sequence parallelism come first, guidance is split afterwards.
A rank allocates and reads its own rows only: nowhere, not even on the host, is there a whole transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from diffusion_runtime.storage import Fill, Target


def shard(
    transformer: torch.nn.Module,
    blocks: Sequence[torch.nn.Module],
    blocks_per_unit: int,
    device: torch.device,
    fill: Fill,
) -> Callable[[], AbstractContextManager[None]]:
    """Shard `transformer` (parameters on the meta device) over the default process group, then fill the
    shards on `device`; returns what to enter for use.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    units = [
        list(blocks[start : start + blocks_per_unit]) for start in range(0, len(blocks), blocks_per_unit)
    ]
    for unit in units:
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    root = fully_shard(transformer, mesh=mesh, reshard_after_forward=False)
    _materialise(transformer, device, fill)
    chain = [root, *(_sharded(unit[0]) for unit in units)]
    for first, second in pairwise(chain):
        first.set_modules_to_forward_prefetch([second])
    return lambda: _gathered_while_used(chain)


def _materialise(transformer: torch.nn.Module, device: torch.device, fill: Fill) -> None:
    """Storage for this rank's part of every parameter, filled with its rows of dimension 0."""

    def allocate(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(tensor, device=device) if tensor.is_meta else tensor.to(device)

    # FSDP2 takes new storage over here, as it does for `to_empty`, which would empty the buffers too.
    transformer._apply(allocate)  # type: ignore[no-untyped-call]
    targets: list[Target] = []
    for name, parameter in transformer.named_parameters():
        assert isinstance(parameter, DTensor)  # noqa: S101  # the root took all that no unit has
        mine = parameter.to_local()
        if mine.numel():
            targets.append((name, mine, _first_row(parameter)))
    fill(targets)


def _first_row(parameter: DTensor) -> int:
    """Rows are dealt as `torch.chunk` does: rank r has those from r x ceil(rows / ranks) on."""
    mesh = parameter.device_mesh
    return mesh.get_local_rank() * -(-parameter.shape[0] // mesh.size())


@contextmanager
def _gathered_while_used(chain: Sequence[FSDPModule]) -> Iterator[None]:
    """Whatever is still gathered at the end is freed: the next phase plans with these bytes."""
    try:
        yield
    except BaseException:
        chain[0].reset_iter_state()
        raise
    finally:
        for module in chain:
            module.reshard()


def _sharded(block: torch.nn.Module) -> FSDPModule:
    assert isinstance(block, FSDPModule)  # noqa: S101  # fully_shard gave it this class
    return block
