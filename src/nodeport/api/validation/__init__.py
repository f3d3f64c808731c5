"""What the API refuses, and in which words: one module per family of kinds, one table over them.

Decides whether a defaulted object may be stored, from the object (and its predecessor) alone. Never: allocation,
existence of other objects, permissions.
"""

from nodeport.api.validation.table import (
    validate_create,
    validate_status_update,
    validate_update,
    validate_way,
)
from nodeport.api.validation.warnings import warnings

__all__ = [
    "validate_create", "validate_status_update", "validate_update", "validate_way", "warnings",
]  # fmt: skip
