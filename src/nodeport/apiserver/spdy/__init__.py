"""SPDY/3.1: what older clients speak after an HTTP upgrade to run commands and forward ports.

`frames` turns bytes into frames and back, without I/O; `connection` keeps the streams of one peer.
Source: the SPDY protocol drafts 3 and 3.1 (https://www.chromium.org/spdy/spdy-protocol/).
"""
