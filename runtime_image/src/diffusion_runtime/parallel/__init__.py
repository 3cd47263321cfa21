"""How ranks share one picture, one technique a file, each a function applied to a built pipeline."""
