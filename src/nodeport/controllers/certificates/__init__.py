"""Approves and signs requests for certificates."""
