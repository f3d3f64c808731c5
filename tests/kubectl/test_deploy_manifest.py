"""The manifest that puts the proxy on a cluster's nodes, given to a real kubectl."""

from __future__ import annotations

from pathlib import Path

from kubectl.conftest import Kubectl

MANIFEST = Path(__file__).resolve().parents[2] / "deploy" / "nodeport-proxy.yaml"
MADE = {"serviceaccount/nodeport-proxy", "clusterrolebinding.rbac.authorization.k8s.io/nodeport-proxy",
        "configmap/nodeport-proxy", "daemonset.apps/nodeport-proxy"}  # fmt: skip


async def test_the_manifest_is_taken_and_nothing_of_it_gets_lost(kubectl: Kubectl) -> None:
    dry = await kubectl("apply", "--dry-run=server", "--validate=true", "-f", str(MANIFEST))
    assert {line.split()[0] for line in dry.lines} == MADE
    assert all(line.endswith("(server dry run)") for line in dry.lines)
    assert dry.err == ""
    done = await kubectl("apply", "--validate=true", "-f", str(MANIFEST))
    assert {line.split()[0] for line in done.lines} == MADE
    await kubectl("diff", "-f", str(MANIFEST))
    found = (await kubectl("get", "daemonset", "nodeport-proxy", "-n", "kube-system", "-o", "json")).json
    pod = found["spec"]["template"]["spec"]
    assert pod["hostNetwork"] is True
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"add": ["NET_ADMIN"], "drop": ["ALL"]}
    assert pod["tolerations"] == [{"operator": "Exists"}]


async def test_the_account_may_do_what_the_proxy_does_and_no_more(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", str(MANIFEST))
    account = "--as=system:serviceaccount:kube-system:nodeport-proxy"
    for words in ("list services", "watch services", "watch endpointslices", "watch nodes", "watch servicecidrs",
                  "create events", "patch events"):  # fmt: skip
        assert (await kubectl("auth", "can-i", *words.split(), account, "-A")).out.strip() == "yes", words
    for words in ("list secrets", "create services", "update nodes", "delete endpointslices"):
        refused = await kubectl("auth", "can-i", *words.split(), account, "-A", fails=True)
        assert refused.out.strip() == "no", words
