"""Where the machine's OCI runtime is. Imported by commands that are to start quickly."""

from __future__ import annotations

import shutil

NAME = "runc"
STANDARD_PLACES = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


class RuntimeMissing(Exception):
    """The machine has none; the text says what to do."""


def find() -> str:
    """Its path. Raises RuntimeMissing."""
    if program := shutil.which(NAME, path=STANDARD_PLACES):
        return program
    raise RuntimeMissing(f"{NAME} is missing, which runs the containers: install the package {NAME}")
