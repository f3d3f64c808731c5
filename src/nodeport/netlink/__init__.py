"""Netlink: bytes to messages and back, one socket, and the kernel families that we speak ourselves.

The codec does no I/O; the socket knows no family. The families (nftables, conntrack, routes) turn plain
values into messages and messages into plain values. Nothing here knows Kubernetes, runs a program, or decides
anything.
"""
