"""Host memory at its highest while 500 MB are loaded, by the kernel's own mark. Run as a program.

One process imports everything and forks a child per residency: a fork's mark starts at what it holds.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel

from diffusion_runtime.loading.component import open_component
from diffusion_runtime.loading.record import LoadRecord
from diffusion_runtime.planning.documents import Residency
from diffusion_runtime.residency.placement import place

SIZES = {"num_layers": 8, "num_single_layers": 2, "attention_head_dim": 96, "num_attention_heads": 12}
OTHERS = {"axes_dims_rope": (32, 32, 32), "joint_attention_dim": 1024, "pooled_projection_dim": 256}


def write(folder: Path) -> int:
    """A transformer of zeros that takes no room on the disk; bytes of its weights."""
    with torch.device("meta"):
        module = FluxTransformer2DModel(**SIZES, **OTHERS)
    module.save_config(folder)
    header, end = {}, 0
    for name, parameter in module.named_parameters():
        size = 2 * parameter.numel()
        header[name] = {"dtype": "BF16", "shape": list(parameter.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(file, 8 + len(text) + end)
    return end


def held(kind: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def load(folder: Path, mode: str) -> None:
    """Prints the residency and how far memory rose."""
    before = held("VmRSS")
    module, fill = open_component(folder, FluxTransformer2DModel, torch.bfloat16, LoadRecord())
    residency = Residency.model_validate({"mode": mode})
    in_use = place(module, residency, torch.device("cpu"), fill, list(module.transformer_blocks))
    print(mode, held("VmHWM") - before, bool(in_use), flush=True)


def main() -> int:
    """`peak_memory.py FOLDER MODE…`"""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    print("weights", write(folder), flush=True)
    for mode in sys.argv[2:]:
        child = os.fork()
        if child == 0:
            try:
                load(folder, mode)
            except BaseException:  # noqa: BLE001  # a fork must never run its parent's code
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(0)
        os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
