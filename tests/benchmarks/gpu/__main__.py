"""`python -m benchmarks.gpu forward --model Qwen/Qwen-Image --small FOLDER --width 1024 --height 1024 …`.

Measures one row on this machine's GPU and writes its file. `--small` is a small folder of the same pipeline;
the full-size one is written beside the scratch files first, unless `--folder` names it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.gpu.rows import PROMPT, ROWS, Room

VERSIONED = ("torch", "diffusers", "transformers", "diffusion-runtime")


def main() -> int:
    """Measure the row, print its ratios."""
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="gpu-row-") as scratch:
        folder = args.folder
        if not (folder / "model_index.json").is_file():
            _write_folder(args)
        request = _request(args)
        start = time.monotonic()
        row = ROWS[args.row](Room(folder, request, Path(scratch), args.repeats, args.vae_tile_size))
    document = {
        "row": args.row,
        "model": args.model,
        "request": request,
        "repeats": args.repeats,
        "gpu": _gpu(),
        "versions": {name: version(name) for name in VERSIONED},
        "command": " ".join(["python -m benchmarks.gpu", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - start, 1),
        **row,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(json.dumps({key: row.get(key) for key in ("ratios", "latents", "floorMs")}) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure one row on this machine's GPU.")
    parser.add_argument("row", choices=sorted(ROWS))
    parser.add_argument("--model", required=True, help="a published model of the catalog")
    parser.add_argument("--small", type=Path, help="small folder of the same pipeline, for its tokenizer")
    parser.add_argument("--folder", type=Path, required=True, help="full-size folder, written when missing")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--fps", type=float, help="frames a second, where the model computes with them")
    parser.add_argument("--vae-tile-size", type=int, help="of decodes while warming up")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance-scale", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="file of the row")
    return parser.parse_args()


def _request(args: argparse.Namespace) -> dict[str, Any]:
    request: dict[str, Any] = {
        "prompt": PROMPT,
        "width": args.width,
        "height": args.height,
        "steps": args.steps,
        "guidanceScale": args.guidance_scale,
        "seed": 1,
    }
    if args.frames > 1:
        request["frames"] = args.frames
    return request | ({} if args.fps is None else {"fps": args.fps})


def _write_folder(args: argparse.Namespace) -> None:
    import torch

    from benchmarks.gpu.full_size import write_full_size

    start = time.monotonic()
    write_full_size(args.model, args.small, args.folder, torch.device("cuda", 0))
    size = sum(file.stat().st_size for file in args.folder.rglob("*") if file.is_file())
    sys.stderr.write(f"{args.folder}: {size / 2**30:.1f} GiB in {time.monotonic() - start:.0f} s\n")
    torch.cuda.empty_cache()


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0)


if __name__ == "__main__":
    sys.exit(main())
