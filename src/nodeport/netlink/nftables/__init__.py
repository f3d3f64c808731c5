"""nf_tables over nfnetlink: tables, chains, rules, sets and elements as plain values, in atomic batches.

Chains, rules and sets are small and few: they are dataclasses, encoded and decoded with care. Elements are many: they
are bytes keyed by bytes, encoded by concatenation. Numbers are those of ``linux/netfilter/nf_tables.h``.
"""
