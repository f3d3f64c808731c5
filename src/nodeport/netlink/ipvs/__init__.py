"""IP virtual server: its messages as values (``messages``), and the kernel's table of virtual services (``kernel``)."""

__all__: list[str] = []
