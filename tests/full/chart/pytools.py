"""Python programs that check manifests, each in an environment of its own outside of the checkout.

checkov alone brings 400 MB and pins what our own lock file pins otherwise, so they never meet ours.
"""

from __future__ import annotations

from pathlib import Path

from localcluster.cache import digest, kept_folder
from localcluster.progress import step
from localcluster.shell import run

PROGRAMS = {"checkov": "checkov==3.3.30", "kubernetes-validate": "kubernetes-validate==1.37.0"}


def program(name: str) -> Path:
    """One of PROGRAMS, installed when missing."""
    requirement = PROGRAMS[name]

    def install(folder: Path) -> None:
        with step(f"installing {requirement} from the Python package index"):
            # Scripts name their interpreter by its path, which is another one until the folder is whole.
            run(["uv", "venv", "--quiet", "--relocatable", folder / "venv"], timeout_seconds=120)
            words = ["uv", "pip", "install", "--quiet", "--python", folder / "venv" / "bin" / "python"]
            run([*words, requirement], timeout_seconds=900)

    return kept_folder(f"pytools/{name}", digest([requirement]), install) / "venv" / "bin" / name
