"""One module per kind of fault: what is done, and what must hold afterwards. Run by tests/full/faults."""
