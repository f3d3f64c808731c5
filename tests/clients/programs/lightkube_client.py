"""lightkube. argv[1]: the namespace."""

import sys
import threading

import uses
from lightkube import ApiError, Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod, Service
from lightkube.resources.discovery_v1 import EndpointSlice
from lightkube.types import PatchType

NAMESPACE = sys.argv[1]
api = Client(namespace=NAMESPACE, field_manager="lightkube-test")


def service():
    made = api.create(Service.from_dict(uses.SERVICE))
    uses.expect(30086 <= made.spec.ports[0].nodePort <= 32767, made.spec.ports)
    patched = api.patch(Service, "web", {"metadata": {"labels": {"x": "y"}}}, patch_type=PatchType.MERGE)
    uses.expect(patched.metadata.labels["x"] == "y", patched.metadata.labels)
    uses.expect(
        [each.metadata.name for each in api.list(Service, labels={"x": "y"})] == ["web"], "list by label"
    )
    api.delete(Service, "web")


def apply():
    first = api.apply(ConfigMap(metadata=ObjectMeta(name="applied"), data={"a": "1"}))
    uses.expect(first.metadata.managedFields[0].operation == "Apply", first.metadata.managedFields)
    second = api.apply(ConfigMap(metadata=ObjectMeta(name="applied"), data={"b": "2"}))
    uses.expect(second.data == {"b": "2"}, second.data)
    try:
        api.apply(ConfigMap(metadata=ObjectMeta(name="applied"), data={"b": "3"}), field_manager="other")
    except ApiError as error:
        uses.expect(error.status.code == 409 and "lightkube-test" in error.status.message, error.status)
    else:
        raise AssertionError("no conflict")


def follow():
    seen = []

    def look():
        for kind, _ in api.watch(ConfigMap, fields={"metadata.name": "watched"}, server_timeout=60):
            seen.append(kind)
            if kind == "DELETED":
                return

    reader = threading.Thread(target=look)
    reader.start()
    api.create(ConfigMap(metadata=ObjectMeta(name="watched")))
    uses.wait_for(lambda: seen, "ADDED")
    api.delete(ConfigMap, "watched")
    reader.join(65)
    uses.expect(seen == ["ADDED", "DELETED"], seen)


def deployment():
    api.create(Deployment.from_dict(uses.DEPLOYMENT))
    api.wait(Deployment, "many", for_conditions=["Available"])
    scale = api.get(Deployment.Scale, "many")
    scale.spec.replicas = 0
    api.replace(scale, "many")
    uses.wait_for(lambda: not [*api.list(Pod, labels={"app": "many"})], "no pods")
    uses.expect([*api.list(EndpointSlice, namespace="default")], "slices")


def logs():
    api.create(Pod.from_dict(uses.POD))
    uses.wait_for(lambda: api.get(Pod, "web").status.phase == "Running", "running")
    uses.wait_for(lambda: any("listening" in line for line in api.log("web")), "a log")


uses.tell("Services: create, patch, list, delete", service)
uses.tell("server-side apply, a conflict", apply)
uses.tell("watch", follow)
uses.tell("wait, scale", deployment)
uses.tell("pods and logs", logs)
