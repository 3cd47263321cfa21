"""Runs other programs and turns a failure into one sentence with the program's last words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class LocalClusterError(RuntimeError):
    """Something the user can read and act on; printed without a traceback."""


class CommandError(LocalClusterError):
    """A program ended with another status than 0."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        tail = "\n".join(output.strip().splitlines()[-15:])
        shown = " ".join(command)
        super().__init__(f"`{shown[:300]}` ended with status {status}:\n{tail}")
        self.status = status
        self.output = output


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    cwd: Path | None = None,
    timeout_seconds: float | None = None,
    merge_stderr: bool = False,
) -> str:
    """Run a program to its end and return its standard output.

    ``env`` is added to this process's environment. Raises CommandError on a status other than 0 and on a
    timeout.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            cwd=cwd,
            timeout=timeout_seconds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge_stderr else subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise CommandError(words, -1, f"no end within {late.timeout:.0f} s") from late
    except FileNotFoundError as missing:
        raise LocalClusterError(f"the program `{words[0]}` is not installed") from missing
    if done.returncode != 0:
        raise CommandError(words, done.returncode, f"{done.stdout}\n{done.stderr or ''}")
    return done.stdout


def succeeds(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout_seconds: float = 60
) -> bool:
    """True when the program ends with status 0 in time."""
    try:
        run(command, env=env, timeout_seconds=timeout_seconds)
    except LocalClusterError:
        return False
    return True
