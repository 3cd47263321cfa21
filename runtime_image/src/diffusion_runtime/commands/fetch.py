"""`diffusion-runtime fetch`: a model from a hub or an S3-compatible store into a folder, pinned and verified.

Progress and the result are JSON lines on stdout, for programs; the last one is also the termination message
of a container, and while it runs `fetch_progress` may answer how far it is. Needs no GPU and no torch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_runtime.commands.fetch_progress import served
from diffusion_runtime.planning.errors import BadRequest

HELP = "bring a model into a folder, at a pinned revision, resumable and hash-checked"
EXIT_FAILED, EXIT_BAD_INPUT = 1, 2
REPORT_SECONDS = 5.0
TERMINATION_LOG = Path("/dev/termination-log")
MESSAGE_BYTES = 4096
MESSAGE_CHARACTERS = 500
"""JSON may take six bytes for one."""
CACHE_VARIABLE = "DIFFUSION_MODEL_CACHE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `fetch`."""
    parser.add_argument(
        "--model-path", required=True, metavar="MODEL", help="OWNER/NAME or s3://BUCKET/PREFIX"
    )
    add_revision_flags(parser)
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help=f"for this model alone (default: one in ${CACHE_VARIABLE})"
    )
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG, metavar="PATH")


def add_revision_flags(parser: argparse._ActionsContainer) -> None:
    """Which of a repository's states, and which of its weights."""
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit (default: main)")
    parser.add_argument("--variant", metavar="NAME", help="weights of this name, for example fp16 or bf16")


def run(args: argparse.Namespace) -> int:
    """0 the folder is whole, 1 another try may help, 2 bad input."""
    from diffusion_runtime.loading.remote.source import FetchFailed

    say = json_progress()
    try:
        with served() as progress:

            def report(done: int, total: int) -> None:
                progress.report(done, total)
                say(done, total)

            done = bring(args.model_path, args.revision, args.variant, args.to, report)
    except BadRequest as error:
        return _end(
            args, EXIT_BAD_INPUT, {"reason": "InvalidSpec", "field": error.field, "message": str(error)}
        )
    except FetchFailed as error:
        return _end(args, EXIT_FAILED, {"reason": error.reason, "message": error.message})
    except OSError as error:
        return _end(args, EXIT_FAILED, {"reason": "StorageFailed", "message": f"{error}"})
    answer = {"reason": "Fetched", "folder": str(done.folder), "commit": done.commit, "bytes": done.bytes}
    return _end(args, 0, answer)


def bring(
    model: str, revision: str | None, variant: str | None, to: Path | None, report: Callable[[int, int], None]
) -> Any:
    """The finished folder (loading.remote.fetch.Fetched)."""
    from diffusion_runtime.loading.remote.fetch import fetch
    from diffusion_runtime.loading.remote.places import source_of

    source = source_of(model, revision)
    return fetch(source, revision or "main", to or cache_folder(model, revision, variant), variant, report)


def cache_folder(model: str, revision: str | None, variant: str | None) -> Path:
    """Where a model lies when nobody says where: one folder per model, revision and variant."""
    default = Path.home() / ".cache" / "diffusion-runtime" / "models"
    name = "--".join(word for word in (model.removeprefix("s3://"), revision or "main", variant) if word)
    return Path(os.environ.get(CACHE_VARIABLE) or default) / name.replace("/", "--")


def json_progress(clock: Callable[[], float] = time.monotonic) -> Callable[[int, int], None]:
    """Prints bytes done and in all, at most every `REPORT_SECONDS`, and at the end."""
    last = clock() - REPORT_SECONDS

    def report(done: int, total: int) -> None:
        nonlocal last
        now = clock()
        if now - last < REPORT_SECONDS and done < total:
            return
        last = now
        _say({"event": "progress", "bytesDone": done, "bytesTotal": total})

    return report


def write_termination(path: Path, text: str) -> None:
    """At most `MESSAGE_BYTES`. The default path is used only where the container has it."""
    if path == TERMINATION_LOG and not path.exists():
        return
    try:
        path.write_bytes(text.encode()[:MESSAGE_BYTES])
    except OSError as error:
        sys.stderr.write(f"cannot write the termination message to {path}: {error.strerror}\n")


def _end(args: argparse.Namespace, code: int, answer: dict[str, Any]) -> int:
    answer = {"phase": "fetch", **answer}
    answer["message"] = str(answer.get("message", ""))[:MESSAGE_CHARACTERS]
    _say({"event": "done" if code == 0 else "failed", **answer})
    if code:
        sys.stderr.write(f"diffusion-runtime fetch: {answer['message']}\n")
    write_termination(args.termination_log, json.dumps(answer, ensure_ascii=False))
    return code


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()
