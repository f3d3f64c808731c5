"""What an image name stands for: layers of a root file system, and what its program wants.

`ImageStore` in ``base`` is the seam, ``nodeimages`` what the nodes have behind it: ``host`` makes images of programs
and folders of this machine; ``store`` keeps those that were loaded or built (``archives``) or pulled (``pulls``,
``registry``, ``credentials``), layer by layer (``layers``, ``unpack``), as their documents say (``manifests``,
``references``).
"""
