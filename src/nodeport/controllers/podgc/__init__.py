"""Removes pods whose node no longer exists."""
