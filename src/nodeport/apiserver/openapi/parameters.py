"""Parameters of the operations, each said once."""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource

_TEXTS: dict[str, tuple[str, str]] = {
    "pretty": ("string", "'true' to get JSON with line breaks and indentation."),
    "dryRun": ("string", "'All' to go through every stage of the request without keeping its outcome."),
    "fieldManager": ("string", "Who makes this change: up to 128 printable characters."),
    "fieldValidation": (
        "string", "What to do about unknown and duplicate fields: 'Ignore', 'Warn' (the default) or 'Strict'.",
    ),
    "force": ("boolean", "Take fields over from other managers. For apply patches only."),
    "labelSelector": ("string", "Which labels the objects must have."),
    "fieldSelector": ("string", "Which values the objects' fields must have."),
    "limit": ("integer", "The most objects to answer with; more come with the token in metadata.continue."),
    "continue": ("string", "The token of the page before."),
    "resourceVersion": ("string", "Which state of the collection is meant."),
    "resourceVersionMatch": ("string", "How resourceVersion is meant: 'Exact' or 'NotOlderThan'."),
    "timeoutSeconds": ("integer", "How long a watch goes on."),
    "watch": ("boolean", "Stream what changes, as watch events, instead of listing."),
    "allowWatchBookmarks": ("boolean", "Whether a watch may send bookmarks, which tell of progress only."),
    "sendInitialEvents": (
        "boolean", "Begin a watch with an event for each object that is there, and a bookmark that ends them.",
    ),
    "gracePeriodSeconds": ("integer", "How long the object has before it must go; 0 for no time."),
    "propagationPolicy": (
        "string", "What becomes of the object's dependents: 'Orphan', 'Background' or 'Foreground'.",
    ),
    "orphanDependents": ("boolean", "Deprecated: propagationPolicy says more."),
    "container": ("string", "Which container; may be left out where a pod has only one."),
    "follow": ("boolean", "Go on as the log grows."),
    "previous": ("boolean", "The log of the container's former run."),
    "sinceSeconds": ("integer", "How far back to begin, in seconds."),
    "sinceTime": ("string", "The moment to begin at, in RFC 3339."),
    "timestamps": ("boolean", "Begin each line with its moment."),
    "tailLines": ("integer", "How many of the last lines to begin with."),
    "limitBytes": ("integer", "The most bytes to send."),
    "command": ("string", "What to run; given once for each argument."),
    "stdin": ("boolean", "Whether to send standard input."),
    "stdout": ("boolean", "Whether to get standard output."),
    "stderr": ("boolean", "Whether to get standard error."),
    "tty": ("boolean", "Whether to run in a terminal."),
    "ports": ("integer", "Which ports to forward."),
    "path": ("string", "The path to ask for."),
}  # fmt: skip

WRITE = ("dryRun", "fieldManager", "fieldValidation")
DELETE = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
LIST = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
    "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
CHOOSE = ("continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch")
OF_SUBRESOURCE = {
    "log": (
        "container", "follow", "limitBytes", "previous", "sinceSeconds", "sinceTime", "tailLines", "timestamps",
    ),
    "exec": ("command", "container", "stderr", "stdin", "stdout", "tty"),
    "attach": ("container", "stderr", "stdin", "stdout", "tty"),
    "portforward": ("ports",),
    "proxy": ("path",),
}  # fmt: skip


def query(*names: str) -> list[JsonObject]:
    """The query parameters ``names``."""
    return [
        {"name": name, "in": "query", "description": _TEXTS[name][1],
         "schema": {"type": _TEXTS[name][0], "uniqueItems": True}}
        for name in names
    ]  # fmt: skip


def of_path(row: Resource, *, item: bool, namespace: bool = True) -> list[JsonObject]:
    """The segments of a path that vary, and ``pretty``, which every operation knows."""
    found = [_segment("name", f"name of the {row.kind}")] if item else []
    if row.namespaced and namespace:
        found.append(_segment("namespace", "the namespace of the objects"))
    return [*found, *query("pretty")]


def _segment(name: str, text: str) -> JsonObject:
    schema = {"type": "string", "uniqueItems": True}
    return {"name": name, "in": "path", "description": text, "required": True, "schema": schema}
