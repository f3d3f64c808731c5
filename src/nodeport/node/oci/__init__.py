"""Containers by an OCI runtime: what it is told (`spec`, pure), and how it is called (`runc`, thin).

Rule source: https://github.com/opencontainers/runtime-spec (config.md, config-linux.md)
"""
