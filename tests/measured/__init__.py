"""Predictions beside what one H200 measured: rows for tests and docs/results/planner-vs-measured.md."""
