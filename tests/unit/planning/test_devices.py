"""GPU names: GPU feature discovery's labels and short ones; slices, shared and unknown ones."""

from __future__ import annotations

import pytest

from diffusion_runtime.planning.devices import device_from_product, known_names
from diffusion_runtime.planning.errors import UnknownHardware


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("NVIDIA-H200", "H200"), ("H200", "H200"), ("NVIDIA-H100-80GB-HBM3", "H100"), ("Tesla-T4", "T4"),
        ("NVIDIA-A100-SXM4-40GB", "A100-40"), ("NVIDIA-A100-80GB-PCIe", "A100-80"), ("A100-80", "A100-80"),
        ("NVIDIA-L4", "L4"), ("NVIDIA-L40S", "L40S"), ("NVIDIA-A10", "A10"), ("NVIDIA-B200", "B200"),
        ("NVIDIA-GeForce-RTX-4090", "RTX-4090"), ("rtx-5090", "RTX-5090"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "RTX-PRO-6000"), ("NVIDIA-H100-PCIe", "H100-PCIE"),
        ("NVIDIA-H100-NVL", "H100-NVL"), ("NVIDIA-A10G", "A10G"), ("NVIDIA-RTX-A6000", "RTX-A6000"),
        ("NVIDIA-RTX-6000-Ada-Generation", "RTX-6000-ADA"), ("Tesla-V100-SXM2-32GB", "V100-32"),
        ("NVIDIA-H20", "H20"),
    ],
)  # fmt: skip
def test_labels_and_short_names(label: str, name: str) -> None:
    device = device_from_product(label)
    assert (device.name, device.known, device.free_bytes) == (name, True, device.total_bytes)


def test_shared_and_mig_are_recognised() -> None:
    assert device_from_product("NVIDIA-A10-SHARED").shared
    slice_ = device_from_product("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb")
    assert slice_.mig
    assert slice_.total_bytes <= 5 * 2**30
    assert slice_.matmul_tflops < device_from_product("A100-40").matmul_tflops / 6


def test_unknown_product_needs_its_memory() -> None:
    with pytest.raises(UnknownHardware, match="memory was not given"):
        device_from_product("Quadro-X")
    device = device_from_product("Quadro X 9000 Workstation Edition", memory_bytes=24 * 2**30)
    assert not device.known
    assert device.group == "quadro-x-9000-workst"


def test_unknown_products_say_that_their_speed_is_guessed() -> None:
    device = device_from_product("Quadro-X", memory_bytes=24 * 2**30)
    assert device.throughput_source == "guessed: 2.5 TFLOP/s for each GiB of 24.0GiB"
    assert device.matmul_tflops == pytest.approx(60)


def test_unknown_products_before_ampere_have_no_bfloat16() -> None:
    old = device_from_product("Quadro-X", memory_bytes=24 * 2**30, compute_major=7)
    assert old.dtypes == ("float16", "float32")
    new = device_from_product("Quadro-X", memory_bytes=24 * 2**30, compute_major=8)
    assert "bfloat16" in new.dtypes


@pytest.mark.parametrize("name", known_names())
def test_every_row_names_the_source_of_its_throughput(name: str) -> None:
    device = device_from_product(name)
    sheet, _, rest = device.throughput_source.partition(": ")
    assert "data sheet" in sheet or "white paper" in sheet or "figures" in sheet
    dense = float(rest.split()[0])
    assert 0.55 < device.matmul_tflops / dense < 0.8
    assert 0.25 < device.attention_tflops / dense < device.matmul_tflops / dense


def test_h200_is_what_was_measured() -> None:
    device = device_from_product("H200")
    assert (round(device.matmul_tflops), round(device.attention_tflops)) == (750, 575)
    assert "measured" in device.throughput_source


def test_more_free_than_there_is() -> None:
    with pytest.raises(UnknownHardware, match="cannot be free"):
        device_from_product("L4", free_bytes=2**40)


def test_every_short_name_is_its_own_group() -> None:
    groups = {device_from_product(name).group for name in known_names()}
    assert len(groups) == len(known_names())
    assert {"h200", "a100-80", "l40s"} <= groups
