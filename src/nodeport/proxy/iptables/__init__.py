"""Proxy mode iptables: chains of our own in the nat and filter tables, sent through iptables-restore.

README.md draws the hooks and says how the decisions of ``forwarding`` are spelled.
"""
