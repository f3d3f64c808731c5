"""Objects as such: create, look, change, delete."""

from __future__ import annotations

import json

from clients.kit import Kit, manifest, row, wait_for

SETTINGS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}


@row("create", "from a manifest; again: AlreadyExists")
def create_manifest(k: Kit) -> None:
    assert "configmap/settings created" in k("create", "-f", "-", stdin=manifest(SETTINGS))
    assert "AlreadyExists" in k("create", "-f", "-", stdin=manifest(SETTINGS), code=1)


@row("create", "configmap, secret, serviceaccount, namespace")
def create_small_kinds(k: Kit) -> None:
    k("create", "configmap", "cm", "--from-literal=a=1")
    k("create", "secret", "generic", "s", "--from-literal=password=x")
    k("create", "secret", "docker-registry", "d", "--docker-username=u", "--docker-password=p")
    k("create", "serviceaccount", "robot")
    name = f"{k.namespace}-more"
    k("create", "namespace", name)
    k("delete", "namespace", name, "--wait=false")
    assert k.path("secret", "s", ".data.password") == "eA=="


@row("create", "quota, priorityclass")
def create_limits(k: Kit) -> None:
    k("create", "quota", "q", "--hard=services.nodeports=2")
    assert k.path("resourcequota", "q", r".spec.hard.services\.nodeports") == "2"
    name = f"p-{k.namespace}"
    k("create", "priorityclass", name, "--value=10")
    k("delete", "priorityclass", name)


@row("create", "poddisruptionbudget", since="1.22")
def create_budget(k: Kit) -> None:
    k("create", "pdb", "b", "--selector=app=web", "--min-available=1")
    assert k.path("pdb", "b", ".spec.minAvailable") == "1"


@row("apply", "creates, leaves alone, changes (three-way)")
def apply_three_way(k: Kit) -> None:
    assert "created" in k.apply(SETTINGS)
    assert "unchanged" in k.apply(SETTINGS)
    k("patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"b":"2"}}')
    assert "configured" in k.apply({**SETTINGS, "data": {"c": "3"}})
    assert k.json("get", "configmap", "settings")["data"] == {"b": "2", "c": "3"}


@row("apply", "--dry-run=server changes nothing")
def apply_dry_run(k: Kit) -> None:
    assert "created (server dry run)" in k("apply", "--dry-run=server", "-f", "-", stdin=manifest(SETTINGS))
    assert "NotFound" in k("get", "configmap", "settings", code=1)


@row("apply", "finds a misspelt field")
def apply_misspelt(k: Kit) -> None:
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80, "targetPrt": 81}]},
    }  # fmt: skip
    text = k("apply", "--validate=true", "-f", "-", stdin=manifest(service), code=1)
    assert "targetPrt" in text
    assert "unknown field" in text


@row("apply", "a manifest that is one List, validated")
def apply_list(k: Kit) -> None:
    items = [{**SETTINGS, "metadata": {"name": name}} for name in ("one", "two")]
    text = k(
        "apply",
        "--validate=true",
        "-f",
        "-",
        stdin=manifest({"apiVersion": "v1", "kind": "List", "items": items}),
    )
    assert "configmap/one created" in text
    assert "configmap/two created" in text


@row("apply", "--prune removes what left the manifests")
def apply_prune(k: Kit) -> None:
    labelled = {"labels": {"set": "one"}}
    one = {**SETTINGS, "metadata": {"name": "one", **labelled}}
    two = {**SETTINGS, "metadata": {"name": "two", **labelled}}
    k("apply", "-f", "-", stdin=manifest(one, two))
    words = ("--prune", "-l", "set=one", "--prune-allowlist=core/v1/ConfigMap")
    if not k.at_least("1.26"):
        words = ("--prune", "-l", "set=one", "--prune-whitelist=core/v1/ConfigMap")
    assert "configmap/two pruned" in k("apply", *words, "-f", "-", stdin=manifest(one))


@row("apply", "--server-side: a conflict is told, --force-conflicts takes over")
def apply_server_side(k: Kit) -> None:
    k("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=manifest(SETTINGS))
    other = manifest({**SETTINGS, "data": {"a": "2"}})
    text = k("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=other, code=1)
    assert 'conflict with "one"' in text
    assert ".data.a" in text
    k("apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-", stdin=other)
    assert k.path("configmap", "settings", ".data.a") == "2"


@row("apply", "--server-side over a client-side object hands the fields over", since="1.26")
def apply_migrates(k: Kit) -> None:
    k.apply(SETTINGS)
    k("apply", "--server-side", "-f", "-", stdin=manifest({**SETTINGS, "data": {"b": "2"}}))
    assert k.json("get", "configmap", "settings")["data"] == {"b": "2"}


@row("apply", "view-last-applied, set-last-applied")
def apply_last_applied(k: Kit) -> None:
    k.apply(SETTINGS)
    assert '"a": "1"' in k("apply", "view-last-applied", "configmap", "settings", "-o", "json")
    changed = manifest({**SETTINGS, "data": {"z": "9"}})
    k("apply", "set-last-applied", "-f", "-", stdin=changed)
    assert '"z": "9"' in k("apply", "view-last-applied", "configmap", "settings", "-o", "json")


@row("diff", "shows what apply would change; exit code 1")
def diff_shows(k: Kit) -> None:
    k.apply(SETTINGS)
    text = k("diff", "-f", "-", stdin=manifest({**SETTINGS, "data": {"a": "2"}}), code=1)
    assert '-  a: "1"' in text
    assert '+  a: "2"' in text
    k("diff", "-f", "-", stdin=manifest(SETTINGS))


@row("get", "table, -o wide|name|json|yaml|jsonpath|custom-columns|go-template")
def get_formats(k: Kit) -> None:
    k.apply(SETTINGS)
    assert k("get", "cm", "settings").splitlines()[0].split() == ["NAME", "DATA", "AGE"]
    assert k("get", "cm", "settings", "-o", "name").strip() == "configmap/settings"
    assert 'a: "1"' in k("get", "cm", "settings", "-o", "yaml")
    assert "DATA" in k("get", "cm", "-o", "wide")
    assert k.path("cm", "settings", ".data.a") == "1"
    columns = k("get", "cm", "settings", "-o", "custom-columns=N:.metadata.name,A:.data.a")
    assert columns.split() == ["N", "A", "settings", "1"]
    assert k("get", "cm", "settings", "-o", "go-template={{.data.a}}") == "1"


@row("get", "-l, --field-selector, -A, --sort-by, --show-labels, -L, --chunk-size")
def get_selected(k: Kit) -> None:
    for name in ("one", "two", "three"):
        k("create", "configmap", name)
    k("label", "configmap", "one", "two", "tier=front")
    assert k("get", "cm", "-l", "tier=front", "-o", "name").split() == ["configmap/one", "configmap/two"]
    assert k(
        "get", "cm", "-l", "tier notin (front)", "--field-selector=metadata.name=three", "-o", "name"
    ).strip()
    assert "tier=front" in k("get", "cm", "one", "--show-labels")
    assert "TIER" in k("get", "cm", "one", "-L", "tier")
    assert k.namespace in k("get", "cm", "-A", "--sort-by=.metadata.name")
    chunked = k("get", "cm", "--chunk-size=1", "-o", "name").split()
    assert {"configmap/one", "configmap/two", "configmap/three"} <= set(chunked)


@row("get", "-w, --watch-only follow changes")
def get_watch(k: Kit) -> None:
    k.apply(SETTINGS)
    with k.running("get", "configmap", "settings", "-w", "-o", "jsonpath={.data.a}{'\\n'}") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "1\n"
        k("patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"a":"2"}}')
        assert watching.stdout.readline() == "2\n"


@row("get", "--raw, --ignore-not-found, all")
def get_odd(k: Kit) -> None:
    assert json.loads(k("get", "--raw", "/version"))["major"] == "1"
    assert k("get", "configmap", "nothing", "--ignore-not-found") == ""
    k("create", "deployment", "web", "--image=nodeport/echo")
    wait_for(lambda: "pod/web-" in k("get", "all"), "get all shows the pod")


@row("get", "--show-managed-fields", since="1.21")
def get_managed_fields(k: Kit) -> None:
    k.apply(SETTINGS)
    assert "managedFields" not in k("get", "cm", "settings", "-o", "yaml")
    text = k("get", "cm", "settings", "-o", "yaml", "--show-managed-fields")
    assert "manager: kubectl-client-side-apply" in text
    assert "f:data" in text


@row("get", "--subresource=status, patch --subresource", since="1.24")
def get_subresource(k: Kit) -> None:
    k("create", "service", "loadbalancer", "lb", "--tcp=80")
    ingress = '{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.9"}]}}}'
    k("patch", "svc", "lb", "--subresource=status", "--type=merge", "-p", ingress)
    shown = k(
        "get", "svc", "lb", "--subresource=status", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"
    )
    assert shown == "203.0.113.9"


@row("describe", "a configmap, a secret, a namespace with quota and limits")
def describe_small(k: Kit) -> None:
    k.apply(SETTINGS)
    assert "Data" in k("describe", "configmap", "settings")
    k("create", "secret", "generic", "s", "--from-literal=p=x")
    assert "p:  1 bytes" in k("describe", "secret", "s")
    k("create", "quota", "q", "--hard=pods=5")
    text = k("describe", "namespace", k.namespace)
    assert "Status:       Active" in text
    assert "Resource Quotas" in text
    assert "No LimitRange resource" in text


@row("edit", "changes through an editor")
def edit_object(k: Kit) -> None:
    k.apply(SETTINGS)
    assert "edited" in k("edit", "configmap", "settings", KUBE_EDITOR='sed -i \'s/a: "1"/a: "5"/\'')
    assert k.path("configmap", "settings", ".data.a") == "5"


@row("patch", "strategic, merge and JSON")
def patch_three_ways(k: Kit) -> None:
    k("create", "service", "nodeport", "web", "--tcp=80")
    k("patch", "svc", "web", "-p", '{"spec":{"ports":[{"port":81,"name":"b"}]}}')
    assert k.path("svc", "web", ".spec.ports[*].port") in ("80 81", "81 80")
    k("patch", "svc", "web", "--type=merge", "-p", '{"metadata":{"labels":{"x":"y"}}}')
    k(
        "patch",
        "svc",
        "web",
        "--type=json",
        "-p",
        '[{"op":"replace","path":"/spec/type","value":"ClusterIP"}]',
    )
    assert k.path("svc", "web", ".spec.type") == "ClusterIP"
    assert k.path("svc", "web", ".metadata.labels.x") == "y"


@row("replace", "by a manifest; --force deletes first")
def replace_object(k: Kit) -> None:
    k("create", "-f", "-", stdin=manifest(SETTINGS))
    uid = k.path("cm", "settings", ".metadata.uid")
    k("replace", "-f", "-", stdin=manifest({**SETTINGS, "data": {"b": "1"}}))
    assert k.json("get", "cm", "settings")["data"] == {"b": "1"}
    k("replace", "--force", "-f", "-", stdin=manifest(SETTINGS))
    assert k.path("cm", "settings", ".metadata.uid") != uid


@row("label", "sets, changes with --overwrite, removes")
def label_object(k: Kit) -> None:
    k.apply(SETTINGS)
    k("label", "cm", "settings", "a=1")
    k("label", "cm", "settings", "a=2", code=1)
    k("label", "cm", "settings", "a=2", "--overwrite")
    assert k.path("cm", "settings", ".metadata.labels.a") == "2"
    k("label", "cm", "settings", "a-")
    assert k.path("cm", "settings", ".metadata.labels.a") == ""


@row("annotate", "sets and removes")
def annotate_object(k: Kit) -> None:
    k.apply(SETTINGS)
    k("annotate", "cm", "settings", "note=hello")
    assert k.path("cm", "settings", ".metadata.annotations.note") == "hello"
    k("annotate", "cm", "settings", "note-")
    assert k.path("cm", "settings", ".metadata.annotations.note") == ""


@row("delete", "by name, label, manifest, --all; waits until gone")
def delete_objects(k: Kit) -> None:
    for name in ("one", "two", "three", "four"):
        k("create", "configmap", name)
    k("label", "configmap", "two", "x=y")
    assert 'configmap "one" deleted' in k("delete", "configmap", "one")
    assert 'configmap "two" deleted' in k("delete", "configmap", "-l", "x=y")
    k("delete", "-f", "-", stdin=manifest({**SETTINGS, "metadata": {"name": "three"}}))
    k("delete", "configmap", "--all")
    assert "NotFound" in k("get", "configmap", "four", code=1)
    assert "NotFound" in k("delete", "configmap", "one", code=1)


@row("delete", "--cascade=foreground and orphan")
def delete_cascades(k: Kit) -> None:
    k.deployment("web")
    k("delete", "deployment", "web", "--cascade=orphan")
    (replica_set,) = k("get", "rs", "-o", "name").split()
    k("delete", replica_set, "--cascade=foreground")
    assert k("get", "rs", "-o", "name") == ""
    wait_for(lambda: k("get", "pods", "-o", "name") == "", "the pods are gone")


@row("wait", "--for=condition, --for=delete")
def wait_conditions(k: Kit) -> None:
    k("create", "deployment", "web", "--image=nodeport/echo")
    k("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
    with k.running("wait", "--for=delete", "deployment/web", "--timeout=60s", "-v=6") as waiting:
        assert waiting.stdout is not None
        assert any("watch=true" in line for line in waiting.stdout), "it never watched"
        k("delete", "deployment", "web")
        assert waiting.wait(timeout=60) == 0
    assert "timed out" in k("wait", "--for=condition=Nothing", "namespace/default", "--timeout=1s", code=1)


@row("wait", "--for=jsonpath", since="1.23")
def wait_jsonpath(k: Kit) -> None:
    k("create", "service", "clusterip", "c", "--tcp=80")
    k("wait", "--for=jsonpath={.spec.type}=ClusterIP", "svc/c", "--timeout=60s")


@row("wait", "--for=create", since="1.31")
def wait_create(k: Kit) -> None:
    k("wait", "--for=create", "serviceaccount/default", "--timeout=60s")


@row("kustomize", "build; apply -k")
def apply_kustomization(k: Kit) -> None:
    folder = k.home / f"kustomization-{k.namespace}"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("namePrefix: my-\nresources: [settings.yaml]\n")
    (folder / "settings.yaml").write_text(manifest(SETTINGS))
    assert "my-settings" in k("kustomize", str(folder))
    assert "configmap/my-settings created" in k("apply", "-k", str(folder))


@row("set", "image, env, resources, selector, serviceaccount, subject")
def set_fields(k: Kit) -> None:
    k("create", "deployment", "web", "--image=nodeport/echo", "--replicas=0")
    k("set", "image", "deployment/web", "echo=nodeport/echo:2")
    k("set", "env", "deployment/web", "A=1")
    k("set", "resources", "deployment/web", "--limits=cpu=1")
    k("set", "serviceaccount", "deployment", "web", "robot")
    pod = k.json("get", "deployment", "web")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (container["image"], container["env"][0]["value"]) == ("nodeport/echo:2", "1")
    assert pod["serviceAccountName"] == "robot"
    assert container["resources"]["limits"] == {"cpu": "1"}
    k("create", "service", "clusterip", "web", "--tcp=80")
    k("set", "selector", "service", "web", "app=other")
    assert k.path("svc", "web", ".spec.selector.app") == "other"
