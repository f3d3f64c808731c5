"""Public helpers for tests, ours and other people's: running parts, fakes and builders.

Nothing here is imported by the product itself; what is here starts real parts wherever that is cheap enough.
"""
