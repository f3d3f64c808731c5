"""Deletes what its owners left behind, and lets owners wait for their dependents."""
