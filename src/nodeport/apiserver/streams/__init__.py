"""Subresources that connect a client with a pod, a service or a node: exec, attach, portforward, proxy, log.

The client's side speaks what clients speak (WebSockets, SPDY, HTTP); the other side is always a node's server.
"""
