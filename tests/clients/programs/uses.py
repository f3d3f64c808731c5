"""How a client program tells what worked: one JSON line a use. Runs in the client's own environment."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0
LABELS = {"app": "web"}
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": LABELS},
    "spec": {"type": "NodePort", "selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]},
}  # fmt: skip
POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": LABELS},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": "nodeport/echo", "ports": [{"containerPort": 8080}]}],
    },
}  # fmt: skip
DEPLOYMENT = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"},
    "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "many"}},
        "template": {"metadata": {"labels": {"app": "many"}}, "spec": POD["spec"]},
    },
}  # fmt: skip


def tell(use: str, steps: Callable[[], object]) -> None:
    """Run the steps and print how that went."""
    try:
        steps()
        print(json.dumps({"use": use, "ok": True, "why": ""}), flush=True)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        print(
            json.dumps({"use": use, "ok": False, "why": f"{type(error).__name__}: {error}"[:300]}), flush=True
        )


def wait_for(check: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := check()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)
    return found


def expect(condition: object, what: object) -> None:
    if not condition:
        raise AssertionError(str(what))
