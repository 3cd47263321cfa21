"""The live half: a keyed queue and one level-triggered story per DiffusionDeployment."""
