from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from nodeport import KUBERNETES_VERSION
from nodeport.node.node_status import Machine, NodeFacts, node_object, node_status, this_machine

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MACHINE = Machine(4, 1024, 2048, "6.18", "Debian", "amd64", "m", "b")
FACTS = NodeFacts(
    "node-1", (IPv4Address("172.30.0.11"),), MACHINE, (IPv4Network("10.244.1.0/24"),), {"zone": "a"}
)


def test_a_registered_node_has_all_that_kubectl_shows() -> None:
    node = node_object(FACTS, NOW)
    assert node["spec"]["podCIDRs"] == ["10.244.1.0/24"]
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"
    assert node["metadata"]["labels"]["zone"] == "a"
    status = node["status"]
    assert status["addresses"][0] == {"type": "InternalIP", "address": "172.30.0.11"}
    assert status["capacity"]["memory"] == "1024Ki"
    assert status["allocatable"] == status["capacity"]
    info = status["nodeInfo"]
    assert (info["kubeletVersion"], info["osImage"], info["kernelVersion"]) == (
        KUBERNETES_VERSION,
        "Debian",
        "6.18",
    )
    assert {item["type"]: item["status"] for item in status["conditions"]} == {
        "Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False",
    }  # fmt: skip


def test_a_heartbeat_keeps_transition_times_of_what_still_holds() -> None:
    first = node_status(FACTS, {}, NOW)
    for item in first["conditions"]:
        if item["type"] == "Ready":
            item["status"] = "Unknown"
    later = node_status(FACTS, first, NOW + timedelta(minutes=1))
    moments = {
        item["type"]: (item["lastTransitionTime"], item["lastHeartbeatTime"]) for item in later["conditions"]
    }
    assert moments["Ready"] == ("2026-01-02T03:05:05Z", "2026-01-02T03:05:05Z")
    assert moments["DiskPressure"] == ("2026-01-02T03:04:05Z", "2026-01-02T03:05:05Z")


def test_nodes_of_one_machine_have_ids_of_their_own() -> None:
    other = NodeFacts("node-2", (IPv4Address("172.30.0.12"),), MACHINE)
    infos = [node_object(facts, NOW)["status"]["nodeInfo"] for facts in (FACTS, other)]
    assert infos[0]["systemUUID"] != infos[1]["systemUUID"]
    assert "podCIDR" not in node_object(other, NOW)["spec"]


def test_the_machine_is_read_from_proc_and_etc(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:       123 kB\nMemFree: 1 kB\n")
    (tmp_path / "etc/os-release").write_text('NAME="x"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    machine = this_machine(tmp_path)
    assert (machine.memory_kib, machine.os_image, machine.machine_id) == (123, "Debian GNU/Linux 12", "")
