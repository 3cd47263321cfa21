"""Trains the demo model from nothing and saves it as a pipeline folder.

`python -m demo_model.train FOLDER --autoencoder-seconds 180` trains the autoencoder; adding
`--diffusion-seconds 480` trains the rest. A stage given 0 seconds is taken from FOLDER as it is.
Needs one GPU with about 20 GiB free for the default sizes; `--scenes` and `--batch` make it small.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import QwenImagePipeline

from .architecture import build_pipeline, prompt_template
from .autoencoder_training import flatten_time, train_autoencoder, with_time
from .dataset import make_scenes, pad_tokens
from .diffusion_training import prepare, train_diffusion

SEED = 20261124
# width, height, share of the steps, share of the scenes
SIZES = ((128, 128, 0.85, 1.0), (192, 128, 0.05, 0.1), (128, 192, 0.05, 0.1), (256, 256, 0.05, 0.1))


def main() -> None:
    arguments = parse()
    started = time.monotonic()
    device = torch.device(arguments.device)
    if (arguments.folder / "model_index.json").exists():
        pipeline = QwenImagePipeline.from_pretrained(
            arguments.folder, use_safetensors=True, dtype=torch.float32
        )
    else:
        pipeline = build_pipeline(SEED)
    pools = [
        make_scenes(
            pipeline.tokenizer, int(arguments.scenes * scenes), width, height, SEED, arguments.workers
        )
        for width, height, _, scenes in SIZES
    ]
    print(f"scenes ready after {time.monotonic() - started:.0f} s", flush=True)
    torch.backends.cuda.matmul.allow_tf32 = True
    if arguments.autoencoder_seconds:
        result = train_autoencoder(
            pipeline.vae, pools[0], arguments.autoencoder_seconds, arguments.autoencoder_batch, SEED, device
        )
        pipeline.vae = with_time(result.vae)
        save(pipeline, arguments.folder)
        print(f"autoencoder: {result.steps} steps, error {result.mean_absolute_error:.5f}", flush=True)
    if arguments.diffusion_seconds:
        steps = train_rest(pipeline, pools, device, arguments)
        save(pipeline, arguments.folder)
        print(f"diffusion: {steps} steps", flush=True)
    print(f"done after {time.monotonic() - started:.0f} s", flush=True)


def train_rest(pipeline: Any, pools: list[Any], device: torch.device, arguments: argparse.Namespace) -> int:
    """Trains text encoder and transformer on the latents of the autoencoder as it stands."""
    vae = pipeline.vae.to(device)
    flatten_time(vae)
    began = time.monotonic()
    buckets = [prepare(vae, pool, size[2], device) for pool, size in zip(pools, SIZES, strict=True)]
    pipeline.vae = with_time(vae)
    print(f"latents ready after {time.monotonic() - began:.0f} s", flush=True)
    pipeline.text_encoder.to(device)
    pipeline.transformer.to(device)
    if arguments.compile:
        pipeline.transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    texts = [prompt_template().format(blank) for blank in (" ", "")]
    empty = torch.from_numpy(pad_tokens(pipeline.tokenizer(texts).input_ids)).to(device)
    return train_diffusion(
        pipeline.text_encoder,
        pipeline.transformer,
        buckets,
        empty,
        arguments.diffusion_seconds,
        arguments.batch,
        SEED,
    )


def save(pipeline: Any, folder: Path) -> None:
    """Saves bfloat16 safetensors; the pipeline in memory is left as it is."""
    for name, dtype in (
        ("vae", torch.bfloat16),
        ("text_encoder", torch.bfloat16),
        ("transformer", torch.bfloat16),
    ):
        part = getattr(pipeline, name)
        kept = {key: value.detach().clone() for key, value in part.state_dict().items()}
        part.to(dtype)
        part.save_pretrained(folder / name, safe_serialization=True)
        part.to(torch.float32)
        part.load_state_dict(kept)
    pipeline.tokenizer.save_pretrained(folder / "tokenizer")
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    pipeline.save_config(folder)
    drop_paths(folder)
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def drop_paths(folder: Path) -> None:
    """Removes the folder each configuration says it was loaded from."""
    for file in (folder / "model_index.json", *folder.glob("*/config.json")):
        config = json.loads(file.read_text())
        if config.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(config, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--autoencoder-seconds", type=float, default=0.0)
    parser.add_argument("--diffusion-seconds", type=float, default=0.0)
    parser.add_argument("--autoencoder-batch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--scenes", type=int, default=300_000)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
