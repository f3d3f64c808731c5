"""The cluster's name server on a node.

``message`` (bytes <-> questions and records), ``records`` (a Service -> its names) and ``zone`` (question -> answer)
are pure; ``forwarder`` and ``server`` open sockets.
"""
