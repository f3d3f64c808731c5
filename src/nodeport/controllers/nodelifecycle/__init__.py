"""Notices nodes that fell silent, taints them and evicts their pods."""
