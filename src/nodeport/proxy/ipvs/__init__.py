"""Proxy mode ipvs: virtual services in the kernel's balancer, and an nf_tables table for the rest. See README.md."""

__all__: list[str] = []
