"""Kubernetes objects as plain JSON, and pure rules over them.

Decides: what an object may look like, what it becomes by default, by patch, by update, and what errors are called.
Never: network, disk (beyond this package's own data files), clock, random numbers, tasks.
"""
