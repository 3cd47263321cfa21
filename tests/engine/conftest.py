"""What the engine's tests share: the built-in demo model's folder, and one torch thread."""

from __future__ import annotations

import os

from engine.plans import DEMO

# Ranks inherit both. One thread makes pictures of one and of two ranks comparable bit by bit.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["DIFFUSION_BUILTIN_MODELS"] = str(DEMO.parent)
