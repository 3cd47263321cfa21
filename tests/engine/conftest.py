"""What the engine's tests share: the built-in demo model's folder, one torch thread, and compiled kernels."""

from __future__ import annotations

import os

from engine.plans import DEMO
from localcluster.settings import cache_folder

# Ranks inherit all of it. One thread makes pictures of one and of two ranks comparable bit by bit.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["DIFFUSION_BUILTIN_MODELS"] = str(DEMO.parent)
# A C++ compiler needs 20 s a graph. torch keeps what it made by a hash of graph, settings and own sources.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder() / "inductor")
