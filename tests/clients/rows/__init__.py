"""The uses of kubectl, a module a theme; importing this fills the table ``kit.ROWS``."""

from clients.rows import objects, pods, security, server, services, workloads

__all__ = ["objects", "pods", "security", "server", "services", "workloads"]
