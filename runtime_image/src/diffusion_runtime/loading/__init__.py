"""From a model folder and a plan to a built pipeline. What can be refused is refused here first."""
