"""GPUs as the planner sees them: memory, speed, links, and whether the device is a slice or shared.

Names come from GPU feature discovery labels (`NVIDIA-H200`) or are short (`H200`, `A100-80`). Nothing is
measured here.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from diffusion_runtime.planning.device_table import ALIASES, PRODUCTS, Product
from diffusion_runtime.planning.documents import DEVICE_SCHEMA, Document, DtypeName, NonNegative, Positive
from diffusion_runtime.planning.errors import UnknownHardware
from diffusion_runtime.planning.units import GIB, MIB, format_bytes

_MIG_SUFFIX = re.compile(r"-mig-(\d+)g\.(\d+)gb(?:\.\w+)?$")
_SHARED_SUFFIX = "-shared"
_UNKNOWN_TFLOPS_PER_GIB = 2.5
"""A cautious guess for products without a row: what a T4 offers per GiB of memory, rounded down."""
_AMPERE = 8
"""First compute capability with bfloat16."""


class Device(Document):
    """One GPU: what it is and what is free on it now. TFLOP/s are achievable ones for 16-bit numbers."""

    schema_version: Literal["diffusion-operator.io/device/v1"] = Field(DEVICE_SCHEMA, alias="schema")
    product: str
    name: str
    total_bytes: Positive
    free_bytes: NonNegative
    known: bool
    shared: bool = False
    mig: bool = False
    matmul_tflops: float
    attention_tflops: float
    memory_bytes_per_s: float
    host_link_bytes_per_s: float
    peer_link_bytes_per_s: float
    dtypes: tuple[DtypeName, ...] = ("bfloat16", "float16", "float32")
    throughput_source: str = ""
    """Where the rates come from, in words."""

    @property
    def group(self) -> str:
        """Name for Kubernetes objects: lower case, at most 20 characters, letters, digits and dashes."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:20].rstrip("-") or "gpu"


class GpuNode(Document):
    """The free GPUs of one node, and its free host memory where known."""

    name: str
    gpus: tuple[Device, ...]
    host_free_bytes: NonNegative | None = None


def known_names() -> tuple[str, ...]:
    """Short names of the table, smallest memory first."""
    return tuple(row.name for row in sorted(PRODUCTS, key=lambda row: row.memory_mib))


def device_from_product(
    product: str,
    *,
    memory_bytes: int | None = None,
    free_bytes: int | None = None,
    compute_major: int | None = None,
) -> Device:
    """Device for a GFD label or a short name.

    `memory_bytes` narrows a known product and is required of an unknown one; free defaults to all of it.
    `compute_major` (CUDA compute capability, from labels or NVML) tells an unknown one's dtypes.
    Raises UnknownHardware when nothing tells the memory, or the numbers contradict each other.
    """
    label = product.strip().lower().replace(" ", "-").replace("_", "-")
    shared = label.endswith(_SHARED_SUFFIX)
    label = label.removesuffix(_SHARED_SUFFIX)
    mig = _MIG_SUFFIX.search(label)
    row = _find(label[: mig.start()] if mig else label)
    share = int(mig.group(1)) / 7 if mig else 1.0
    total = _total_bytes(product, row, mig, memory_bytes)
    free = total if free_bytes is None else free_bytes
    if free > total:
        raise UnknownHardware(
            f"{product} has {format_bytes(total)} of memory, so {format_bytes(free)} cannot be free on it."
        )
    name = (row.name if row else product.strip().replace(" ", "-")) + (
        f"-MIG-{mig.group(1)}g.{mig.group(2)}gb" if mig else ""
    )
    device = _device(product, name, row, total, free, share, shared, mig is not None)
    if row is None and compute_major is not None and compute_major < _AMPERE:
        return device.model_copy(update={"dtypes": ("float16", "float32")})
    return device


def _device(
    product: str, name: str, row: Product | None, total: int, free: int, share: float, shared: bool, mig: bool
) -> Device:
    guess = _UNKNOWN_TFLOPS_PER_GIB * total / GIB
    matmul, attention = (row.matmul_tflops, row.attention_tflops) if row else (guess, guess * 0.7)
    memory, host, peer = (
        (row.memory_gb_per_s, row.host_link_gb_per_s, row.peer_link_gb_per_s) if row else (300.0, 12.0, 10.0)
    )
    return Device(
        product=product,
        name=name,
        total_bytes=total,
        free_bytes=free,
        known=row is not None,
        shared=shared,
        mig=mig,
        matmul_tflops=matmul * share,
        attention_tflops=attention * share,
        memory_bytes_per_s=memory * share * 1e9,
        host_link_bytes_per_s=host * 1e9,
        peer_link_bytes_per_s=peer * 1e9,
        dtypes=row.dtypes if row else ("bfloat16", "float16", "float32"),
        throughput_source=row.source
        if row
        else f"guessed: {_UNKNOWN_TFLOPS_PER_GIB:g} TFLOP/s for each GiB of {format_bytes(total)}",
    )


def _total_bytes(
    product: str, row: Product | None, mig: re.Match[str] | None, memory_bytes: int | None
) -> int:
    if memory_bytes is not None and memory_bytes <= 0:
        raise UnknownHardware(f"The memory given for {product} is {memory_bytes} bytes; it must be positive.")
    if mig is not None:
        return memory_bytes if memory_bytes is not None else int(int(mig.group(2)) * GIB * 0.95)
    if row is not None:
        table = row.memory_mib * MIB
        return table if memory_bytes is None else min(table, memory_bytes)
    if memory_bytes is not None:
        return memory_bytes
    raise UnknownHardware(
        f"GPU {product!r} is not in the table ({', '.join(known_names())}) and its memory was not given; "
        f"write for example {product}:memory=24GiB."
    )


def _find(label: str) -> Product | None:
    short = ALIASES.get(label, label).lower()
    best: tuple[int, Product] | None = None
    for row in PRODUCTS:
        if short == row.name.lower():
            return row
        for prefix in row.labels:
            matches = label == prefix or label.startswith(prefix + "-")
            if matches and (best is None or len(prefix) > best[0]):
                best = (len(prefix), row)
    return best[1] if best else None
