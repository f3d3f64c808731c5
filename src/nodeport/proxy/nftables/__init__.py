"""Proxy mode nftables: constant rules, flat maps, changes that cost what they change.

``layout`` names the sets, maps and chains; ``render`` spells forwardings as elements; ``transaction`` is the difference
between two rulesets; ``proxier`` sends it. Read README.md for the picture.
"""
