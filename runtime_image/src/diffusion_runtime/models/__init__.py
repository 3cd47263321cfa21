"""Model families: torch-free facts, one file per family. Nothing here loads weights."""
