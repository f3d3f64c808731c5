"""A pod's volumes: what their files are to be (`payload`, pure), how they change at once (`atomic`), where they are and
how containers see them (`podvolumes`).

Rule source: https://kubernetes.io/docs/concepts/storage/volumes/ and /projected-volumes/
"""
