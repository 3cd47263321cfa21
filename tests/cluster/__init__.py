"""Tests against a real cluster with the product installed by Helm. They are slow, so each waits for events
and never sleeps.
"""
