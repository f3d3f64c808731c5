"""Protects ServiceCIDRs that addresses still come from, and says which are ready."""
