"""A transformer's weights sharded over all ranks (FSDP2): each block is gathered just before it computes.

Also under CFG parallel, where both branches run the same blocks in the same order. The next unit is gathered
while one computes; the part outside the blocks stays gathered until the denoise phase ends. Residency hooks,
compilation and sequence parallelism come first, guidance is split afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard


def shard(
    transformer: torch.nn.Module,
    blocks: Sequence[torch.nn.Module],
    blocks_per_unit: int,
    device: torch.device,
) -> Callable[[], AbstractContextManager[None]]:
    """Shard `transformer` (loaded on the CPU) over the default process group; returns what to enter for use.

    Afterwards this rank holds its shard on `device` only. At most one whole unit is on the device meanwhile.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    units = [
        list(blocks[start : start + blocks_per_unit]) for start in range(0, len(blocks), blocks_per_unit)
    ]
    for unit in units:
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    root = fully_shard(transformer, mesh=mesh, reshard_after_forward=False)
    chain = [root, *(_sharded(unit[0]) for unit in units)]
    for first, second in pairwise(chain):
        first.set_modules_to_forward_prefetch([second])
    return lambda: _gathered_while_used(chain)


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
