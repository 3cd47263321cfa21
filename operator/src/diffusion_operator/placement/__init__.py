"""Turns one DiffusionDeployment and the ledger into a decision. Pure: no client, no clock."""
