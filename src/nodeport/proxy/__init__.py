"""The service proxy of one node: from Services, EndpointSlices and the Node to the kernel, and nothing else.

``runner`` watches, ``forwarding`` decides, a mode (``nftables``, ``iptables``, ``ipvs``) spells the decision for the
kernel and sends only what differs. The proxy touches its own tables and no others, sets no packet marks, and writes
nothing to the API but events. ``server`` puts a runner in kube-proxy's place: its ports, metrics and events.
"""
