"""A model that a command needs on this machine: where it lies already, or fetched first."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from diffusion_runtime.commands.fetch import REPORT_SECONDS, add_revision_flags, bring, cache_folder
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.explain import format_bytes


def add_fetch_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say which weights, and whether they may be fetched."""
    group = parser.add_argument_group("a model that is not on this machine is fetched first")
    add_revision_flags(group)
    group.add_argument("--offline", action="store_true", help="never fetch: use what was fetched before")


def local_model(args: argparse.Namespace) -> str:
    """What to give to `facts_from_flag`: a built-in name or a folder.

    Raises BadRequest, and FetchFailed where another try may help.
    """
    from diffusion_runtime.loading.remote.fetch import fetched
    from diffusion_runtime.loading.remote.places import is_remote

    model: str = args.model_path
    if not is_remote(model):
        return model
    folder: Path = cache_folder(model, args.revision, args.variant)
    have = fetched(folder)
    if args.offline and have is None:
        raise BadRequest("offline", f"--offline is set and {model} was not fetched to {folder} before.")
    if have is not None and (args.offline or have.commit == args.revision):
        return str(folder)
    return str(bring(model, args.revision, args.variant, folder, _progress(model)).folder)


def _progress(model: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_SECONDS:
            last = time.monotonic()
            sys.stderr.write(f"fetching {model}: {format_bytes(done)} of {format_bytes(total)}\n")

    return report
