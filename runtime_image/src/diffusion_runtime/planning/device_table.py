"""The GPU products that the planner knows by name. Data only; `devices` looks things up in it.

Memory is what CUDA sees (a little less than the data sheet). H200 throughput and links are measured (matmul
755-779, cuDNN attention 575 TFLOP/s, host link 55.3, peer 275 GB/s). The other rows are estimates: 76 % of
the data sheet's dense 16-bit matmul rate and 58 % of it for attention (the shares measured on H200), PCIe
generation for the host link.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_runtime.planning.documents import DtypeName

_ALL: tuple[DtypeName, ...] = ("bfloat16", "float16", "float32")
_TURING: tuple[DtypeName, ...] = ("float16", "float32")


@dataclass(frozen=True)
class Product:
    """One row. `labels` are prefixes of GPU feature discovery's product label, in lower case."""

    name: str
    labels: tuple[str, ...]
    memory_mib: int
    matmul_tflops: float
    attention_tflops: float
    memory_gb_per_s: float
    host_link_gb_per_s: float
    peer_link_gb_per_s: float
    dtypes: tuple[DtypeName, ...] = _ALL


# name, labels, memory MiB, matmul, attention, memory GB/s, host GB/s, peer GB/s. Longest label wins.
PRODUCTS: tuple[Product, ...] = (
    Product("T4", ("tesla-t4", "nvidia-t4"), 14_930, 40, 20, 320, 12, 10, _TURING),
    Product("L4", ("nvidia-l4",), 22_560, 92, 70, 300, 24, 18),
    Product("A10", ("nvidia-a10", "nvidia-a10g"), 22_580, 95, 73, 600, 24, 18),
    Product("A100-40", ("nvidia-a100-sxm4-40gb", "nvidia-a100-pcie-40gb"), 40_330, 237, 181, 1_555, 24, 180),
    Product("A100-80", ("nvidia-a100-sxm4-80gb", "nvidia-a100-80gb-pcie"), 81_040, 237, 181, 2_039, 24, 180),
    Product("L40S", ("nvidia-l40s",), 45_470, 275, 210, 864, 24, 18),
    Product("RTX-4090", ("nvidia-geforce-rtx-4090",), 24_210, 125, 96, 1_008, 24, 10),
    Product("RTX-5090", ("nvidia-geforce-rtx-5090",), 32_110, 159, 122, 1_792, 50, 18),
    Product("RTX-PRO-6000", ("nvidia-rtx-pro-6000",), 97_250, 380, 290, 1_792, 50, 40),
    Product("H100", ("nvidia-h100",), 81_080, 680, 540, 3_350, 55, 275),
    Product("H200", ("nvidia-h200",), 143_156, 750, 575, 4_800, 55.3, 275),
    Product("B200", ("nvidia-b200",), 182_600, 1_700, 1_300, 8_000, 55, 550),
)

ALIASES: dict[str, str] = {
    "a100-40gb": "A100-40",
    "a100-80gb": "A100-80",
    "rtx4090": "RTX-4090",
    "rtx5090": "RTX-5090",
    "4090": "RTX-4090",
    "5090": "RTX-5090",
    "rtx-6000-pro": "RTX-PRO-6000",
    "rtxpro6000": "RTX-PRO-6000",
    "h100-80": "H100",
    "h100-80gb": "H100",
}
