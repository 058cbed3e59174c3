"""Drift: what the newest window of the tables has that the windows before it had not (docs/drift.md)."""
