"""Where compiled kernels are kept, so that the next start need not compile them again.

One folder for each engine version, torch version and GPU product: torch's own caches check much, not all of
that. On a volume when DIFFUSION_COMPILE_CACHE names one, else in the temporary folder, which ends with the
container. Torch-free: ranks find it in their environment.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diffusion_runtime.planning.documents import Execution

from .refusal import EngineRefusal

VARIABLE = "DIFFUSION_COMPILE_CACHE"
COMPILERS = ("g++", "c++", "clang++")


def cache_key(product: str) -> str:
    """Folder name for what is compiled by this engine, this torch, for this GPU (or `cpu`)."""
    words = (f"engine-{_version('diffusion-runtime')}", f"torch-{_version('torch')}", product)
    return "_".join(re.sub(r"[^a-z0-9.+]+", "-", word.lower()).strip("-") for word in words)


def compile_environment(
    execution: Execution, product: str, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Variables for the ranks; none when nothing is compiled. What the user set himself stays.

    EngineRefusal when there is no compiler, or the folder cannot be written.
    """
    if not execution.compile.enabled:
        return {}
    if not ("CXX" in environment or any(map(shutil.which, COMPILERS))):
        raise EngineRefusal(
            "LayoutUnsupported",
            "compile.enabled=true needs a C++ compiler in the engine's image; none of "
            f"{', '.join(COMPILERS)} is on the PATH.",
        )
    chosen = environment.get(VARIABLE)
    folder = Path(chosen or Path(tempfile.gettempdir()) / "diffusion-compile") / cache_key(product)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise EngineRefusal("InvalidSpec", f"The compile cache {folder} cannot be written; see {VARIABLE}.")
    variables = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
    return {name: environment.get(name, str(folder / part)) for name, part in variables.items()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
