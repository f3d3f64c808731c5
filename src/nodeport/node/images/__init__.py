"""What an image name stands for: layers of a root file system, and what its program wants.

`ImageStore` in ``base`` is the seam. ``host`` makes images out of programs and folders of this machine, without any
registry; a store of images that were loaded or pulled is another `ImageStore` behind `NodeImages`.
"""
