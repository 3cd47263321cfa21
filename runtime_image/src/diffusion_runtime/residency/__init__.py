"""Where weights live, one technique a file, each a function applied to a built component."""
