"""`kubectl diffusion`: what the operator decided, and what it would decide. Reads only; it never writes."""
