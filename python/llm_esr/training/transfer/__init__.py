"""MELT: tail users and tail items learn from the head (docs/melt.md)."""
