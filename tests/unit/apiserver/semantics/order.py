"""What takes more than one request to tell: which fault comes first, what a refusal leaves, what comes back."""

from __future__ import annotations

from typing import Any

from unit.apiserver.semantics.harness import MERGE, SERVICES, Served

RULES_TOLD = [
    "order/again-with-nodePort", "order/again-with-clusterIP", "order/again-with-neither", "order/refusal-releases",
    "order/upsert", "order/put-unconditional", "order/delete-returns-object", "order/dry-run-delete", "nodePort/taken",
    "validation/finalizers",
]  # fmt: skip


def service(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def made_again_with_its_numbers_it_is_invalid(served: Served) -> None:
    name = served.new_name()
    whole = service(name, type="NodePort", ports=[{"port": 80, "nodePort": 30801}])
    with served.removing(name):
        first = served("POST", SERVICES, whole)
        again = served("POST", SERVICES, whole)
        taken = "spec.ports[0].nodePort: Invalid value: 30801: provided port is already allocated"
        assert (again.status, again.body["message"]) == (422, f'Service "{name}" is invalid: {taken}')
        address = first.body["spec"]["clusterIP"]
        again = served("POST", SERVICES, service(name, clusterIP=address))
        assert again.status == 422
        assert again.body["message"].endswith(
            f"failed to allocate IP {address}: provided IP is already allocated"
        )
        again = served("POST", SERVICES, service(name, type="NodePort"))
        assert (again.status, again.body["reason"]) == (409, "AlreadyExists")
        assert again.body["message"] == f'services "{name}" already exists'


def a_port_is_taken_by_anyone_for_any_protocol(served: Served) -> None:
    name, other = served.new_name(), served.new_name()
    with served.removing(name, other):
        served("POST", SERVICES, service(name, type="NodePort", ports=[{"port": 80, "nodePort": 30802}]))
        for entry in ({"port": 80, "nodePort": 30802}, {"port": 53, "protocol": "UDP", "nodePort": 30802}):
            answer = served("POST", SERVICES, service(other, type="NodePort", ports=[entry]))
            assert answer.status == 422
            assert answer.body["details"]["causes"] == [{
                "reason": "FieldValueInvalid", "field": "spec.ports[0].nodePort",
                "message": "Invalid value: 30802: provided port is already allocated",
            }]  # fmt: skip
        dry = served(
            "POST",
            f"{SERVICES}?dryRun=All",
            service(other, type="NodePort", ports=[{"port": 80, "nodePort": 30802}]),
        )
        assert dry.status == 422


def a_refusal_gives_back_what_was_taken(served: Served) -> None:
    name = served.new_name()
    wanted = {"type": "NodePort", "clusterIP": "10.96.44.4", "ports": [{"port": 80, "nodePort": 30803}]}
    with served.removing(name):
        refused = served("POST", SERVICES, service(name, **wanted, sessionAffinity="x"))
        assert refused.status == 422
        assert len(refused.body["details"]["causes"]) == 1
        assert served("POST", SERVICES, service(name, **wanted)).status == 201


def put_makes_what_is_missing_and_needs_no_version(served: Served) -> None:
    name = served.new_name()
    with served.removing(name):
        made = served("PUT", f"{SERVICES}/{name}", service(name, type="NodePort"))
        assert (made.status, made.body["spec"]["ports"][0]["nodePort"] > 0) == (201, True)
        changed = served("PUT", f"{SERVICES}/{name}", service(name, type="NodePort", ports=[{"port": 81}]))
        assert changed.status == 200
        assert changed.body["spec"]["ports"][0]["nodePort"] == made.body["spec"]["ports"][0]["nodePort"]
        stale = {**made.body, "spec": changed.body["spec"]}
        conflict = served("PUT", f"{SERVICES}/{name}", stale)
        assert (conflict.status, conflict.body["reason"]) == (409, "Conflict")


def a_delete_answers_with_the_service_and_a_dry_one_changes_nothing(served: Served) -> None:
    name, other = served.new_name(), served.new_name()
    with served.removing(name, other):
        served("POST", SERVICES, service(name, type="NodePort", ports=[{"port": 80, "nodePort": 30804}]))
        dry = served("DELETE", f"{SERVICES}/{name}?dryRun=All")
        assert (dry.status, dry.body["kind"]) == (200, "Service")
        taken = served(
            "POST", SERVICES, service(other, type="NodePort", ports=[{"port": 80, "nodePort": 30804}])
        )
        assert taken.status == 422
        gone = served("DELETE", f"{SERVICES}/{name}")
        assert (gone.status, gone.body["kind"], gone.body["metadata"]["name"]) == (200, "Service", name)
        free = served(
            "POST", SERVICES, service(other, type="NodePort", ports=[{"port": 80, "nodePort": 30804}])
        )
        assert free.status == 201


def no_finalizer_joins_a_service_that_is_going_and_the_last_one_frees_its_numbers(served: Served) -> None:
    name = served.new_name()
    held = service(name, type="NodePort", ports=[{"port": 80, "nodePort": 30805}])
    held["metadata"]["finalizers"] = ["example.com/a"]
    with served.removing(name):
        served("POST", SERVICES, held)
        going = served("DELETE", f"{SERVICES}/{name}")
        assert going.body["metadata"]["deletionTimestamp"]
        refused = served(
            "PATCH",
            f"{SERVICES}/{name}",
            {"metadata": {"finalizers": ["example.com/a", "example.com/b"]}},
            MERGE,
        )
        assert refused.status == 422
        assert refused.body["message"] == (
            f'Service "{name}" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is'
            ' being deleted, found new finalizers []string{"example.com/b"}'
        )
        served("PATCH", f"{SERVICES}/{name}/status", {"metadata": {"finalizers": None}}, MERGE)
        assert served("GET", f"{SERVICES}/{name}").status == 404
        assert (
            served(
                "POST", SERVICES, service(name, type="NodePort", ports=[{"port": 80, "nodePort": 30805}])
            ).status
            == 201
        )


def field_selectors_choose_services_by_type_and_address(served: Served) -> None:
    plain, headless, outer = served.new_name(), served.new_name(), served.new_name()
    with served.removing(plain, headless, outer):
        made = served("POST", SERVICES, service(plain, type="NodePort")).body
        served("POST", SERVICES, service(headless, clusterIP="None"))
        served("POST", SERVICES, service(outer, type="ExternalName", externalName="a.b"))

        def chosen(selector: str) -> set[str]:
            answer = served("GET", f"{SERVICES}?fieldSelector={selector}")
            assert answer.status == 200, answer.body
            return {each["metadata"]["name"] for each in answer.body["items"]} - {"kubernetes"}

        assert chosen("spec.clusterIP!=None") == {plain, outer}
        assert chosen("spec.clusterIP=None") == {headless}
        assert chosen(f"spec.clusterIP={made['spec']['clusterIP']}") == {plain}
        assert chosen("spec.clusterIP=") == {outer}
        assert chosen("spec.type=NodePort") == {plain}
        assert chosen("spec.type!=NodePort,spec.clusterIP!=None") == {outer}
        assert chosen("spec.type==ExternalName") == {outer}
        refused = served("GET", f"{SERVICES}?fieldSelector=spec.foo=a")
        assert (refused.status, refused.body["message"]) == (400, "field label not supported: spec.foo")


STORIES = [
    made_again_with_its_numbers_it_is_invalid, a_port_is_taken_by_anyone_for_any_protocol, a_refusal_gives_back_what_was_taken,
    put_makes_what_is_missing_and_needs_no_version, a_delete_answers_with_the_service_and_a_dry_one_changes_nothing,
    no_finalizer_joins_a_service_that_is_going_and_the_last_one_frees_its_numbers, field_selectors_choose_services_by_type_and_address,
]  # fmt: skip
