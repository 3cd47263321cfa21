"""The controller: turns DiffusionDeployment objects into planned, running engines. Never imports torch."""
