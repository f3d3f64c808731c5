"""A node for every pod that has none."""
