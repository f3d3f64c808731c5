"""Who owns which ClusterIP and which node port.

A claim is a guard key in the store, written in the same commit as the Service that holds it; the bitmaps here are only
a fast view of those keys. An allocator never writes to the store itself: it hands out reservations.
"""
