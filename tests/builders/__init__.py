"""Builders of test inputs, importable from every test folder."""
