"""From facts and free memory to a plan that explains itself. Knows neither torch nor Kubernetes."""
