"""What the cluster has and what of it is taken. Pure functions over parsed objects; no client, no clock."""
