"""What one node must do with service traffic: decided once, as plain data, without I/O.

Services, EndpointSlices and facts about the node go in; a forwarding table comes out. A proxy mode spells the table
in its kernel's language; ``decide`` answers for a single packet, for tests and for people who ask why. Nothing here
watches, waits, or knows nftables.
"""
