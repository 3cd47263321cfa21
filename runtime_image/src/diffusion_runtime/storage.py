"""Storage under a module's parameters, and the call that fills it from files.

What loading, residency and parallel share without knowing each other: a module comes with parameters on the
meta device and a `Fill`; whoever decides where weights live allocates, fills and puts. Nothing here reads.
"""

from __future__ import annotations

import mmap
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import torch

Target = tuple[str, torch.Tensor, int]
"""Parameter name, a contiguous tensor for some of its rows (dimension 0), the first of these rows."""
Fill = Callable[[Sequence[Target]], None]
"""Reads stored weights into every target, cast to its dtype. Returns when all of them are there."""


def put(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Make these tensors the parameters of these names, wherever in `module` they are used (tied ones)."""
    places: dict[int, list[tuple[torch.nn.Module, str]]] = defaultdict(list)
    for child in module.modules():
        for key, parameter in child._parameters.items():
            if parameter is not None:
                places[id(parameter)].append((child, key))
    replaced = {name: p for name, p in module.named_parameters() if name in tensors}
    for name, parameter in replaced.items():
        new = torch.nn.Parameter(tensors[name], requires_grad=False)
        for child, key in places[id(parameter)]:
            child._parameters[key] = new


def empty_like_on(parameter: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Contiguous storage for a parameter, not filled."""
    return torch.empty(parameter.shape, dtype=parameter.dtype, device=device)


def host_bytes(size: int) -> torch.Tensor:
    """`size` bytes of host memory (uint8), exact, backed by huge pages where the kernel has some to give.

    Huge pages are written and registered faster: there are 512 times fewer of them.
    """
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)


def lock(memory: torch.Tensor, device: torch.device) -> None:
    """Page-lock host memory with CUDA until it is freed; nothing to do when `device` is no GPU.

    torch's own pinned allocator rounds up to powers of two (6 GiB asked, 10 GiB locked), so plain memory is
    registered instead, which is also faster; fill it first, pages that exist are registered faster still.
    Raises RuntimeError when the driver refuses.
    """
    if device.type != "cuda" or not memory.nbytes:
        return
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = memory.data_ptr()
    torch.cuda.check_error(int(runtime.cudaHostRegister(address, memory.nbytes, 0)))
    weakref.finalize(memory, runtime.cudaHostUnregister, address).atexit = False
