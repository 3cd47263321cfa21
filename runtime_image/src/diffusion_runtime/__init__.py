"""Planner and engine for diffusion models. Importing this package imports neither torch nor Kubernetes."""
