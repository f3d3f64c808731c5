"""How a node's pods reach those of other nodes: plain routes, or a VXLAN where nodes have a router between them.

``plan`` decides and ``diff`` says what to tell the kernel (both pure), ``kernel`` reads and tells, ``follow`` keeps it
so, ``watch`` hears when somebody else changes it, ``guard`` keeps strangers off the tunnel.
"""
