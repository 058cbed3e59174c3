"""From ranking to sets: the contacts that wait and the CSAs with room are matched together (docs/sets.md)."""
