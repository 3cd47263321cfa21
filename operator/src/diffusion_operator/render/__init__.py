"""Turns a decision into manifests, one file a child kind. Pure: no client."""
