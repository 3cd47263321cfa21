"""The node agent on a real NVIDIA GPU: what another process takes is foreign, what a pod takes is not.

Run by `make test-gpu` on a machine with an NVIDIA GPU; without one it fails rather than skips. The kubelet is
the tests' own, everything below it is real.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builders.fake_kubelet import FakeKubelet, serving
from diffusion_operator.node_agent.foreign import ForeignMemory, Observation
from diffusion_operator.node_agent.host_memory import read_host_memory
from diffusion_operator.node_agent.nvml import Nvml
from diffusion_operator.node_agent.pod_resources import PodResources

GIB = 2**30
TAKEN_BYTES = 5 * GIB
CONTEXT_BYTES = 2 * GIB
"""More than any CUDA context with torch's kernels takes; the rest of the rise must be the allocation."""
HOLDER = f"""
import sys, torch
held = torch.empty({TAKEN_BYTES}, dtype=torch.uint8, device="cuda:0").fill_(1)
torch.cuda.synchronize()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process() -> Iterator[None]:
    """A process that holds 5 GiB of the first GPU until the end of the block."""
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == 0


class Looker:
    """One agent's eyes: the real driver, a kubelet on a socket, and what it remembers."""

    def __init__(self, socket: Path, kubelet: FakeKubelet) -> None:
        self.kubelet = kubelet
        self.nvml = Nvml()
        self.resources = PodResources(socket)
        self.memory = ForeignMemory()

    def look(self) -> Observation:
        before = self.resources.holders()
        reading = self.nvml.read()
        return self.memory.observe(before, reading, self.resources.holders(), read_host_memory())

    def foreign_bytes(self) -> int:
        """Of the first GPU, which must be readable."""
        gpu = self.look().gpus[0]
        assert gpu.reading.problem is None
        return gpu.foreign_bytes


@pytest.fixture
def looker(tmp_path: Path) -> Iterator[Looker]:
    kubelet = FakeKubelet()
    with serving(kubelet, tmp_path / "kubelet.sock"):
        made = Looker(tmp_path / "kubelet.sock", kubelet)
        yield made
        made.resources.close()
        made.nvml.close()


def test_every_gpu_of_this_machine_is_described(looker: Looker) -> None:
    seen = looker.look()
    assert seen.gpus, "no NVIDIA GPU answers; these tests are for a machine that has one"
    assert seen.driver_version
    for gpu in seen.gpus:
        reading = gpu.reading
        assert reading.problem is None
        assert reading.uuid.startswith("GPU-")
        assert reading.product
        assert reading.memory is not None
        assert 0 <= reading.memory.used_bytes + reading.memory.reserved_bytes <= reading.memory.total_bytes
        print(f"{reading.index}: {reading.product}, {reading.memory}, {reading.links}")


def test_memory_of_another_process_is_foreign_and_goes_with_it(looker: Looker) -> None:
    idle = looker.foreign_bytes()
    with other_process():
        rise = looker.foreign_bytes() - idle
    print(f"foreign bytes rose by {rise / GIB:.3f} GiB for {TAKEN_BYTES / GIB:.0f} GiB of torch memory")
    assert TAKEN_BYTES <= rise <= TAKEN_BYTES + CONTEXT_BYTES
    assert abs(looker.foreign_bytes() - idle) < GIB // 4


def test_memory_of_a_pod_is_not(looker: Looker) -> None:
    idle = looker.foreign_bytes()
    uuid = looker.look().gpus[0].reading.uuid
    looker.kubelet.held = {"team/p": {"nvidia.com/gpu": [uuid]}}
    with other_process():
        gpu = looker.look().gpus[0]
        assert gpu.reading.memory is not None
        assert gpu.reading.memory.used_bytes >= TAKEN_BYTES
        assert gpu.foreign_bytes <= idle
