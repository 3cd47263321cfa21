"""The parent process and its commands start without torch, which costs seconds and gigabytes."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = (
    "diffusion_runtime.server.serve",
    "diffusion_runtime.server.draw_once",
    "diffusion_runtime.commands.serve",
    "diffusion_runtime.commands.generate",
    "diffusion_runtime.loading.gpus",
)


@pytest.mark.parametrize("forbidden", ["torch", "diffusers", "transformers"])
def test_parent_modules_do_not_import(forbidden: str) -> None:
    code = f"import sys, {', '.join(MODULES)}; sys.exit({forbidden!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
