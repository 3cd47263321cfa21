"""Rows measured on one real GPU beside plain diffusers. `python -m benchmarks.gpu --help` lists them."""
