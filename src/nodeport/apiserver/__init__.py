"""The API over HTTP: the only room that opens the store.

It authenticates, routes, decodes, defaults, validates, allocates, commits, and streams changes. It runs no control
loop (that is the controllers' room), never touches the kernel, and never re-encodes an object to serve it.
"""
