from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.node.servicevariables import service_variables


def service(name: str, namespace: str = "d", address: str = "10.96.0.9", **ports: int) -> JsonObject:
    listed = [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports.items()]
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": listed},
    }


MASTER = service("kubernetes", "default", "10.96.0.1", https=443)


def pod(**spec: object) -> JsonObject:
    return {"metadata": {"name": "p", "namespace": "d"}, "spec": spec}


def test_a_service_is_told_in_all_its_words() -> None:
    assert service_variables([service("my-web", http=80)], pod()) == {
        "MY_WEB_SERVICE_HOST": "10.96.0.9",
        "MY_WEB_SERVICE_PORT": "80",
        "MY_WEB_SERVICE_PORT_HTTP": "80",
        "MY_WEB_PORT": "tcp://10.96.0.9:80",
        "MY_WEB_PORT_80_TCP": "tcp://10.96.0.9:80",
        "MY_WEB_PORT_80_TCP_PROTO": "tcp",
        "MY_WEB_PORT_80_TCP_PORT": "80",
        "MY_WEB_PORT_80_TCP_ADDR": "10.96.0.9",
    }


def test_services_of_other_namespaces_and_without_an_address_are_not_told() -> None:
    services = [service("web", "other", a=1), service("headless", address="None", a=1), service("none")]
    assert service_variables(services, pod()) == {}


def test_the_api_server_is_told_everywhere_unless_the_namespace_has_its_own() -> None:
    for wanted in (pod(), pod(enableServiceLinks=False)):
        found = service_variables([MASTER, service("web", a=1)], wanted)
        assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
        assert ("WEB_SERVICE_HOST" in found) is (wanted["spec"] == {})
    own = service("kubernetes", a=8443)
    assert service_variables([own, MASTER], pod())["KUBERNETES_SERVICE_HOST"] == "10.96.0.9"


def test_an_ipv6_address_is_bracketed_in_urls() -> None:
    found = service_variables([service("web", address="fd00::9", a=80)], pod())
    assert (found["WEB_PORT"], found["WEB_SERVICE_HOST"]) == ("tcp://[fd00::9]:80", "fd00::9")
