"""Whether a user may do what he asks for: RBAC, and what nodes may do beside it."""
