"""The torch-free parent process: HTTP, queue, probes and the life of the rank group."""
