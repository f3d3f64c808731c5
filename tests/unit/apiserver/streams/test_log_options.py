"""Options of pods/NAME/log that make no sense are refused in Kubernetes' words, before any node is asked."""

from __future__ import annotations

import pytest

from unit.apiserver.conftest import Raw

LOG = "/api/v1/namespaces/default/pods/web/log"


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        (
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 422,
            ": Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ("stream=Both", 422, 'stream: Unsupported value: "Both": supported values: "All", "Stderr", "Stdout"'),
        (
            "stream=Stdout&tailLines=1", 422,
            ": Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
        ),
        ("sinceTime=x", 400, 'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"'),
        ("tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)  # fmt: skip
async def test_options_are_checked(raw: Raw, query: str, status: int, message: str) -> None:
    answer = await raw("GET", f"{LOG}?{query}")
    expected = f'PodLogOptions "web" is invalid: {message}' if status == 422 else message
    assert (answer.status, answer.message) == (status, expected)


async def test_a_pod_without_a_node_has_no_log(raw: Raw) -> None:
    pod = {
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]},
    }
    await raw.create("/api/v1/namespaces/default/pods", pod)
    answer = await raw("GET", LOG)
    assert (answer.status, answer.message) == (
        400, "a container name must be specified for pod web, choose one of: [a b]",
    )  # fmt: skip
    answer = await raw("GET", f"{LOG}?container=c")
    assert (answer.status, answer.message) == (400, "container c is not valid for pod web")
    answer = await raw("GET", f"{LOG}?container=a")
    assert (answer.status, answer.body) == (204, b"")
