"""Pods with lasting names, made, updated and removed in order."""
