"""Tests over real loopback HTTP: the client and the kopf wiring against a small API server."""
