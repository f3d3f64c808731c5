"""Schemathesis reads our own OpenAPI documents and looks for requests that break the server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from nodeport.testing.apiserver import running_apiserver
from tooling import tool

CONFIG = Path(__file__).with_name("schemathesis.toml")
STREAMS = r"/watch/|/(exec|attach|portforward|proxy|log)\b"
RUNS = {
    "apis/discovery.k8s.io/v1": ("--phases", "coverage,fuzzing"),
    "apis/networking.k8s.io/v1": ("--phases", "fuzzing"),
    "api/v1": ("--phases", "fuzzing", "--include-path-regex", "/(services|endpoints|namespaces/.name)"),
}
"""Document -> what is tried of it."""
EXAMPLES = os.environ.get("NODEPORT_FUZZ_EXAMPLES", "4")
"""How many requests each operation gets in the fuzzing phase."""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
"""Nothing breaks, and every answer is one that the document announces."""
ALLOWED_SECONDS = 200


@pytest.mark.parametrize("document", RUNS)
async def test_no_operation_of_the_document_breaks_the_server(document: str, tmp_path: Path) -> None:
    python = await asyncio.to_thread(tool, "pyclient", "schemathesis-4")
    async with running_apiserver(seed=1) as api:
        both = tmp_path / "client.pem"
        both.write_bytes(api.pki.admin.cert.read_bytes() + api.pki.admin.key.read_bytes())
        both.chmod(0o600)
        authority = tmp_path / "ca.pem"
        authority.write_bytes(api.ca_pem)
        command = [
            str(Path(python).with_name("st")), "--config-file", str(CONFIG), "run", f"{api.url}/openapi/v3/{document}",
            "--url", api.url, "--request-cert", str(both), "--tls-verify", str(authority),
            "--checks", CHECKS, "--max-examples", EXAMPLES, "--seed", "1", "--request-timeout", "10",
            "--no-color", "--generation-database", "none", "--exclude-path-regex", STREAMS, *RUNS[document],
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(ALLOWED_SECONDS):
                out, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        text = out.decode()
        assert process.returncode == 0, text[-6000:]
        assert "passed" in text, text[-2000:]
