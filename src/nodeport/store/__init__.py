"""The store: a revisioned, watchable log of key -> bytes.

``base`` says what every store promises; ``memory`` and ``sqlite`` keep it, and one contract suite checks both. Nothing
here knows what a value means, and only the apiserver opens a store.
"""
