"""Only what differs per kind: what a write does to an object beside defaulting and validation.

A strategy never touches the store or HTTP; it changes the objects it is given and reserves numbers for them.
"""
