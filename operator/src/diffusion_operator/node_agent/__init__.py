"""The node agent: one pod per GPU node that says what its GPUs hold beside the pods. It decides nothing."""
