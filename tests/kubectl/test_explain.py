"""kubectl explain: every served kind, with the API's own words."""

from __future__ import annotations

from typing import Any

from nodeport.api.resources import RESOURCES


async def test_every_kind_is_explained(kubectl: Any) -> None:
    for row in RESOURCES:
        if "get" not in row.verbs:
            continue
        found = await kubectl("explain", row.plural, f"--api-version={row.api_version}")
        assert any(line.split() == ["KIND:", row.kind] for line in found.lines), row.kind
        assert "<empty>" not in found.out.split("FIELDS:")[0], row.kind
        assert "metadata\t<Object" in found.out


async def test_fields_are_explained_with_their_types(kubectl: Any) -> None:
    found = await kubectl("explain", "service.spec.ports.targetPort")
    assert ("<IntOrString>" if kubectl.version > "1.24" else "<string>") in found.out
    assert "Number or name of the port to access on the pods" in found.out
    whole = await kubectl("explain", "deployments", "--recursive")
    assert "terminationGracePeriodSeconds\t<integer>" in whole.out
    required = await kubectl("explain", "service.spec.ports")
    assert "port\t<integer> -required-" in required.out


async def test_the_old_document_explains_too(kubectl: Any) -> None:
    words = ("--output=plaintext-openapiv2",) if kubectl.version > "1.24" else ()
    found = await kubectl("explain", "service.spec.ports", *words)
    assert "nodePort\t<integer>" in found.out.replace("   ", "")
    assert "The port on each node on which this service is exposed" in found.out
