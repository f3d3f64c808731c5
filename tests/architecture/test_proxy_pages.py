"""What is told about the proxy is what it does: its flags, its metrics, its manifest."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import yaml

from nodeport import __version__
from nodeport.api.kubeproxy.defaults import with_defaults
from nodeport.api.kubeproxy.text import read
from nodeport.api.kubeproxy.validation import validate
from nodeport.forwarding.table import Family
from nodeport.proxy.metrics import ProxyMetrics
from nodeport.proxy.options import Mode

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_about_flags_is_what_the_parser_says() -> None:
    """``make docs`` writes it."""
    code = (
        "import runpy; made = runpy.run_path('tools/make_reference.py');"
        "print(made['render_flags']() == made['FLAGS_TARGET'].read_text())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "True\n", f"run make docs; {done.stderr}"


def test_the_page_about_replacing_kube_proxy_names_every_metric() -> None:
    page = (ROOT / "docs" / "how-to" / "replace-kube-proxy.md").read_text()
    names = {
        family.name if family.type != "counter" else f"{family.name}_total"
        for mode in Mode
        for family in ProxyMetrics(mode, (Family.IPV4,), datetime.now(UTC)).registry.collect()
    }
    assert not [name for name in names if name not in page and not name.startswith("process_")]


def test_the_manifest_holds_configurations_that_the_proxy_takes() -> None:
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "nodeport-proxy.yaml").read_text()))
    (settings,) = (item["data"] for item in documents if item["kind"] == "ConfigMap")
    for name in ("config.conf", "init.conf"):
        found = read(settings[name].encode())
        assert found.complaints == []
        assert validate(with_defaults(found.config), minor=36) == []
    (daemons,) = (item for item in documents if item["kind"] == "DaemonSet")
    pod = daemons["spec"]["template"]["spec"]
    images = {container["image"] for container in (*pod["containers"], *pod["initContainers"])}
    assert images == {f"localhost/nodeport:{__version__}"}
