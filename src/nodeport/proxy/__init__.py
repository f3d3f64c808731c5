"""The service proxy of one node: from Services, EndpointSlices and the Node to the kernel, and nothing else.

``runner`` watches, ``forwarding`` decides, a mode (``nftables``) spells the decision for the kernel and sends only
what differs. The proxy touches its own table and no other, sets no packet marks, and never writes to the API.
"""
