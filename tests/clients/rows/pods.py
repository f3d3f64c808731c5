"""Pods: running, looking inside, talking to them."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request

from clients.kit import ECHO, Kit, row, wait_for


@row("run", "--restart=Never, --dry-run=client, --port")
def run_pod(k: Kit) -> None:
    k("run", "p", f"--image={ECHO}", "--restart=Never", "--port=8080")
    k("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    assert k.path("pod", "p", ".spec.restartPolicy") == "Never"
    assert "kind: Pod" in k("run", "q", f"--image={ECHO}", "--dry-run=client", "-o", "yaml")


@row(
    "run",
    "--rm -i: input goes in, output comes out, the pod goes (1.22.0 to 1.22.2 with KUBECTL_COMMAND_HEADERS=false: "
    "without, they wait for ever on any server, which 1.22.3 mended)",
)
def run_attached(k: Kit) -> None:
    words = ("run", "p", f"--image={ECHO}", "--restart=Never", "--rm", "-i", "--quiet", "--command", "--")
    headers = {"KUBECTL_COMMAND_HEADERS": "false"} if k.version == "1.22" else {}
    text = k(*words, "sh", "-c", "read line; echo got $line; sleep 1", stdin="hello\n", **headers)
    assert "got hello" in text
    assert k("get", "pod", "p", "--ignore-not-found") == ""


@row("logs", "--tail, --limit-bytes, --timestamps, --since, -l, -f, deploy/NAME")
def logs_filtered(k: Kit) -> None:
    command = ["sh", "-c", "for i in 1 2 3; do echo line $i; done; exec sleep 1000"]
    k.sleeper(containers=[{"name": "main", "image": ECHO, "command": command}])
    assert wait_for(lambda: k("logs", "sleeper", "--tail=1"), "a line") == "line 3\n"
    assert k("logs", "sleeper", "--limit-bytes=1") == "l"
    stamped = k("logs", "sleeper", "--timestamps", "--tail=1")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z line 3", stamped)
    assert k("logs", "sleeper", "--since=24h").count("\n") == 3
    assert "line 2" in k("logs", "-l", "app=sleeper")
    with k.running("logs", "-f", "sleeper") as following:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(3)] == ["line 1\n", "line 2\n", "line 3\n"]


@row("logs", "--previous of a container that restarted")
def logs_previous(k: Kit) -> None:
    command = ["sh", "-c", "echo once; exit 1"]
    k.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "main", "image": ECHO, "command": command}]},
    })  # fmt: skip
    wait_for(
        lambda: k.path("pod", "p", ".status.containerStatuses[0].restartCount") not in ("", "0"), "a restart"
    )
    assert "once" in k("logs", "p", "--previous")


@row("exec", "runs a command and hands on its output and exit code")
def exec_command(k: Kit) -> None:
    k.sleeper()
    assert k("exec", "sleeper", "--", "sh", "-c", "echo $HOSTNAME; hostname") == "sleeper\nsleeper\n"
    assert "exit code 7" in k("exec", "sleeper", "--", "sh", "-c", "exit 7", code=7)
    assert "not valid for pod" in k("exec", "sleeper", "-c", "other", "--", "true", code=1)
    assert "not found" in k("exec", "nobody", "--", "true", code=1)


@row("exec", "-i: standard input goes in, its end too; binary is kept")
def exec_input(k: Kit) -> None:
    k.sleeper()
    assert k("exec", "-i", "sleeper", "--", "cat", stdin="a\nb\n") == "a\nb\n"
    data = bytes(range(256)) * 2048
    counted = k("exec", "-i", "sleeper", "--", "sh", "-c", "wc -c", stdin=data)
    assert counted.strip() == str(len(data))


@row("exec", "-it: a terminal")
def exec_terminal(k: Kit) -> None:
    k.sleeper()
    command = " ".join(k.command("exec", "-it", "sleeper", "--", "sh", "-c", "'test -t 0 && stty size'"))
    done = subprocess.run(
        ["script", "-qec", f"stty rows 31 cols 97; {command}", "/dev/null"], env=k.environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "31 97" in done.stdout, done


@row("attach", "to the output of a running container; -i to its input")
def attach_container(k: Kit) -> None:
    command = ["sh", "-c", "while read line; do echo got $line; done"]
    k.sleeper(containers=[{"name": "main", "image": ECHO, "command": command, "stdin": True}])
    with k.running("attach", "-i", "sleeper") as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        attached.stdin.write("one\n")
        attached.stdin.flush()
        while "got one" not in (line := attached.stdout.readline()):
            assert line, "attach ended"


@row("cp", "to a pod and back")
def copy_files(k: Kit) -> None:
    k.sleeper()
    source = k.home / f"in-{k.namespace}"
    source.write_bytes(bytes(range(256)) * 64)
    k("cp", str(source), "sleeper:/tmp/file")
    assert k("exec", "sleeper", "--", "sh", "-c", "wc -c < /tmp/file").strip() == str(256 * 64)
    back = k.home / f"out-{k.namespace}"
    k("cp", "sleeper:/tmp/file", str(back))
    assert back.read_bytes() == source.read_bytes()


def forwarded(k: Kit, target: str, port: int) -> dict[str, object]:
    with k.running("port-forward", target, f":{port}", "--address=127.0.0.1") as forwarding:
        assert forwarding.stdout is not None
        line = forwarding.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
        assert found, line
        for _ in range(3):
            url = f"http://127.0.0.1:{found[1]}/?format=json"
            with urllib.request.urlopen(url, timeout=10) as answer:
                got: dict[str, object] = json.loads(answer.read())
        return got


@row("port-forward", "to a pod, a deployment, a service")
def forward_ports(k: Kit) -> None:
    k.deployment("web")
    k("expose", "deployment", "web", "--port=80", "--target-port=8080")
    pod = k("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    for target, port in ((f"pod/{pod}", 8080), ("deployment/web", 8080), ("service/web", 80)):
        assert forwarded(k, target, port)["pod"] == pod


@row("proxy", "the API; a pod and a service behind it")
def proxy_everything(k: Kit) -> None:
    k.deployment("web")
    k("expose", "deployment", "web", "--port=80", "--target-port=8080")
    pod = k("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    wait_for(lambda: k.endpoints("web"), "endpoints of web")
    with k.running("proxy", "--port=0") as proxying:
        assert proxying.stdout is not None
        address = proxying.stdout.readline().split()[-1]
        base = f"http://{address}/api/v1/namespaces/{k.namespace}"
        for path in (f"pods/{pod}:8080", "services/web:80", "services/http:web:80"):
            with urllib.request.urlopen(f"{base}/{path}/proxy/?format=json", timeout=10) as answer:
                assert json.loads(answer.read())["pod"] == pod


@row("describe", "a pod with its events; a node")
def describe_pod(k: Kit) -> None:
    k.sleeper()
    text = k("describe", "pod", "sleeper")
    for word in ("Scheduled", "Started", "Ready             True", "Image:"):
        assert word in text, text
    text = k("describe", "node", "node-1")
    for word in ("Non-terminated Pods", "Allocated resources", "KubeletReady", "Lease:"):
        assert word in text, text


@row("delete", "a pod: graceful, --now, --force")
def delete_pods(k: Kit) -> None:
    for name in ("one", "two", "three"):
        k("run", name, f"--image={ECHO}")
    k("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    k("delete", "pod", "one")
    k("delete", "pod", "two", "--now")
    k("delete", "pod", "three", "--force", "--grace-period=0")
    assert k("get", "pods", "-o", "name") == ""


@row(
    "debug", "an ephemeral container beside the others, and among their processes with --target", since="1.25"
)
def debug(k: Kit) -> None:
    k.sleeper()
    container = k.json("get", "pod", "sleeper")["spec"]["containers"][0]["name"]
    reasons = ".status.ephemeralContainerStatuses[*].state.terminated.reason"
    for count, name, *target in ((1, "beside"), (2, "among", f"--target={container}")):
        k(
            "debug",
            "sleeper",
            f"--image={ECHO}",
            f"--container={name}",
            *target,
            "--",
            "cat",
            "/proc/1/cmdline",
        )
        wait_for(
            lambda count=count: k.path("pod", "sleeper", reasons).split() == ["Completed"] * count,
            f"{name} has ended",
        )
        assert k("logs", "sleeper", "-c", name)
    names = [each["name"] for each in k.json("get", "pod", "sleeper")["spec"]["ephemeralContainers"]]
    assert names == ["beside", "among"]
