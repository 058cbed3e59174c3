"""A package by name: distributions are about that install a `tests` of their own, and a folder without this file loses
to them in every process that a test starts."""
