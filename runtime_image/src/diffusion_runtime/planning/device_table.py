"""The GPU products that the planner knows by name. Data only; `devices` looks things up in it.

Throughput is what can be achieved: the data sheet's dense 16-bit tensor rate (with 32-bit accumulation) times
an efficiency. Only H200 was measured (matmul 755-779, cuDNN attention 575 TFLOP/s, host link 55.3, peer link
275 GB/s, 2026-11-23); its shares stand for the other cards, lower ones for cards that their power limit or
missing attention kernels hold back. Memory is what CUDA sees, a little less than the data sheet's. Host links
are PCIe generations at the share that H200 reached, peer links NVLink or PCIe likewise.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_runtime.planning.documents import DtypeName

_ALL: tuple[DtypeName, ...] = ("bfloat16", "float16", "float32")
_BEFORE_AMPERE: tuple[DtypeName, ...] = ("float16", "float32")


@dataclass(frozen=True)
class Efficiency:
    """Shares of the data sheet's rate that matmul and attention reach, and where they come from."""

    matmul: float
    attention: float
    source: str


MEASURED = Efficiency(750 / 989, 575 / 989, "measured on H200, 2026-11-23")
LIKE_H200 = Efficiency(0.76, 0.58, "the shares measured on H200")
POWER_LIMITED = Efficiency(0.6, 0.45, "H200's shares less a fifth: cards of 70 to 75 W slow down under load")
OLD_ATTENTION = Efficiency(0.6, 0.3, "no FlashAttention 2 before Ampere: an estimate")


@dataclass(frozen=True)
class Product:
    """One row. `labels` are prefixes of GPU feature discovery's product label, in lower case."""

    name: str
    labels: tuple[str, ...]
    memory_mib: int
    dense_tflops: float
    efficiency: Efficiency
    memory_gb_per_s: float
    host_link_gb_per_s: float
    peer_link_gb_per_s: float
    sheet: str
    dtypes: tuple[DtypeName, ...] = _ALL

    @property
    def matmul_tflops(self) -> float:
        """Achievable 16-bit matmul rate."""
        return self.dense_tflops * self.efficiency.matmul

    @property
    def attention_tflops(self) -> float:
        """Achievable 16-bit attention rate."""
        return self.dense_tflops * self.efficiency.attention

    @property
    def source(self) -> str:
        """Where the throughput comes from, in words."""
        return (
            f"{self.sheet}: {self.dense_tflops:g} TFLOP/s dense, x {self.efficiency.matmul:.2f} for matmul "
            f"and {self.efficiency.attention:.2f} for attention ({self.efficiency.source})"
        )


# name, labels, memory MiB, dense TFLOP/s, efficiency, memory GB/s, host GB/s, peer GB/s. Longest label wins.
PRODUCTS: tuple[Product, ...] = (
    Product("T4", ("tesla-t4", "nvidia-t4"), 14_930, 65, OLD_ATTENTION, 320, 12, 10,
            "NVIDIA T4 data sheet", _BEFORE_AMPERE),
    Product("V100-16", ("tesla-v100-sxm2-16gb", "tesla-v100-pcie-16gb"), 16_150, 112, OLD_ATTENTION, 900, 12,
            40, "NVIDIA V100 data sheet (PCIe)", _BEFORE_AMPERE),
    Product("V100-32", ("tesla-v100-sxm2-32gb", "tesla-v100-sxm3-32gb", "tesla-v100-pcie-32gb"), 32_490, 112,
            OLD_ATTENTION, 900, 12, 40, "NVIDIA V100 data sheet (PCIe)", _BEFORE_AMPERE),
    Product("L4", ("nvidia-l4",), 22_560, 121, POWER_LIMITED, 300, 24, 18, "NVIDIA L4 data sheet"),
    Product("A10", ("nvidia-a10",), 22_580, 125, LIKE_H200, 600, 24, 18, "NVIDIA A10 data sheet"),
    Product("A10G", ("nvidia-a10g",), 22_580, 70, LIKE_H200, 600, 24, 18, "AWS's A10G figures"),
    Product("A30", ("nvidia-a30",), 24_060, 165, LIKE_H200, 933, 24, 80, "NVIDIA A30 data sheet"),
    Product("A40", ("nvidia-a40",), 45_400, 149.7, LIKE_H200, 696, 24, 18, "NVIDIA A40 data sheet"),
    Product("RTX-A6000", ("nvidia-rtx-a6000",), 48_500, 154.8, LIKE_H200, 768, 24, 18,
            "NVIDIA Ampere GA102 white paper"),
    Product("A100-40", ("nvidia-a100-sxm4-40gb", "nvidia-a100-pcie-40gb"), 40_330, 312, LIKE_H200, 1_555, 24,
            180, "NVIDIA A100 data sheet"),
    Product("A100-80", ("nvidia-a100-sxm4-80gb", "nvidia-a100-80gb-pcie"), 81_040, 312, LIKE_H200, 2_039, 24,
            180, "NVIDIA A100 data sheet"),
    Product("L20", ("nvidia-l20",), 45_400, 119.5, LIKE_H200, 864, 24, 18, "NVIDIA L20 data sheet"),
    Product("L40S", ("nvidia-l40s",), 45_470, 362, LIKE_H200, 864, 24, 18, "NVIDIA L40S data sheet"),
    Product("RTX-6000-ADA", ("nvidia-rtx-6000-ada",), 48_500, 364, LIKE_H200, 960, 24, 18,
            "NVIDIA RTX 6000 Ada data sheet"),
    Product("RTX-4090", ("nvidia-geforce-rtx-4090",), 24_210, 165, LIKE_H200, 1_008, 24, 10,
            "NVIDIA Ada white paper"),
    Product("RTX-5090", ("nvidia-geforce-rtx-5090",), 32_110, 209.5, LIKE_H200, 1_792, 50, 18,
            "NVIDIA RTX Blackwell white paper"),
    Product("RTX-PRO-6000", ("nvidia-rtx-pro-6000",), 97_250, 503.8, LIKE_H200, 1_792, 50, 40,
            "NVIDIA RTX PRO Blackwell white paper"),
    Product("H20", ("nvidia-h20",), 97_200, 148, LIKE_H200, 4_000, 55, 275, "NVIDIA H20 data sheet"),
    Product("H100-PCIE", ("nvidia-h100-pcie",), 80_990, 756, LIKE_H200, 2_000, 55, 180,
            "NVIDIA H100 data sheet (PCIe)"),
    Product("H100-NVL", ("nvidia-h100-nvl",), 95_300, 835, LIKE_H200, 3_900, 55, 180,
            "NVIDIA H100 data sheet (NVL)"),
    Product("H100", ("nvidia-h100",), 81_080, 989, LIKE_H200, 3_350, 55, 275, "NVIDIA H100 data sheet (SXM)"),
    Product("H200", ("nvidia-h200",), 143_156, 989, MEASURED, 4_800, 55.3, 275, "NVIDIA H200 data sheet"),
    Product("B200", ("nvidia-b200",), 182_600, 2_250, LIKE_H200, 8_000, 55, 550, "NVIDIA B200 data sheet"),
)  # fmt: skip

ALIASES: dict[str, str] = {
    "a100-40gb": "A100-40",
    "a100-80gb": "A100-80",
    "rtx4090": "RTX-4090",
    "rtx5090": "RTX-5090",
    "4090": "RTX-4090",
    "5090": "RTX-5090",
    "rtx-6000-pro": "RTX-PRO-6000",
    "rtxpro6000": "RTX-PRO-6000",
    "a6000": "RTX-A6000",
    "h100-80": "H100",
    "h100-80gb": "H100",
}
