"""A real Kubernetes cluster on this machine, for the demo and for tests/cluster.

Run as ``python -m localcluster`` (the Makefile does). It needs the standard library and PyYAML only,
because it runs before anything of the product is installed. It never edits a file of the host: everything
lives in one cache folder.
"""
