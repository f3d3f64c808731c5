"""The ``nodeport`` program: one file a command, in kubectl's words and columns.

Commands are clients of the API like any other; none of them opens a store or touches the kernel by itself. Every module
here is quick to import, because ``nodeport --help`` imports them all: what weighs is imported where it is used.
"""
