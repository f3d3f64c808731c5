"""delete and deletecollection over HTTP: preconditions, finalizers, grace, namespaces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from nodeport.api.resources import NAMESPACES
from nodeport.api.resources import SERVICES as SERVICE_ROW
from nodeport.api.status import Forbidden
from nodeport.client.rest import RestClient
from nodeport.store.base import Expect, Operation, Revision, Undecided
from nodeport.store.memory import MemoryStore
from nodeport.testing.apiserver import running_apiserver

Json = dict[str, Any]
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"


def config_map(name: str = "c", **metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}


def pod(name: str = "p", **spec: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


async def test_deleting_answers_with_a_status_or_the_object(raw: Any) -> None:
    made = await raw.create(CONFIG_MAPS, config_map())
    answer = await raw("DELETE", f"{CONFIG_MAPS}/c")
    assert answer.status == 200
    assert answer.json["status"] == "Success"
    assert answer.json["details"] == {"name": "c", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    await raw.create(SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    answer = await raw("DELETE", f"{SERVICES}/s")
    assert (answer.status, answer.json["kind"]) == (200, "Service")
    assert (await raw("DELETE", f"{SERVICES}/s")).status == 404


async def test_preconditions_protect_another_object_of_the_same_name(raw: Any) -> None:
    made = await raw.create(CONFIG_MAPS, config_map())
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}}
    answer = await raw("DELETE", f"{CONFIG_MAPS}/c", body)
    assert (answer.status, answer.reason) == (409, "Conflict")
    assert answer.message == (
        'Operation cannot be fulfilled on ConfigMap "c": the UID in the precondition (other) does not match the UID in '
        f"record ({made['metadata']['uid']}). The object might have been deleted and then recreated"
    )
    body["preconditions"] = {"resourceVersion": "1"}
    answer = await raw("DELETE", f"{CONFIG_MAPS}/c", body)
    assert answer.status == 409
    assert answer.message == (
        'Operation cannot be fulfilled on ConfigMap "c": the ResourceVersion in the precondition (1) does not match the '
        f"ResourceVersion in record ({made['metadata']['resourceVersion']}). The object might have been modified"
    )
    body["preconditions"] = {"uid": made["metadata"]["uid"]}
    assert (await raw("DELETE", f"{CONFIG_MAPS}/c", body)).status == 200


async def test_a_dry_run_deletes_nothing(raw: Any) -> None:
    await raw.create(CONFIG_MAPS, config_map())
    assert (await raw("DELETE", f"{CONFIG_MAPS}/c?dryRun=All")).status == 200
    assert (await raw("DELETE", f"{CONFIG_MAPS}/c?dryRun=&dryRun=All")).status == 422
    assert (await raw("DELETE", f"{CONFIG_MAPS}/c", {"dryRun": ["All", "Some"]})).status == 422
    assert (await raw("GET", f"{CONFIG_MAPS}/c")).status == 200


async def test_finalizers_hold_an_object_until_they_are_gone(raw: Any) -> None:
    await raw.create(CONFIG_MAPS, config_map(finalizers=["example.com/f"]))
    taken = await raw("POST", CONFIG_MAPS, config_map())
    assert taken.message == 'configmaps "c" already exists'
    answer = await raw("DELETE", f"{CONFIG_MAPS}/c")
    assert (answer.status, answer.json["kind"]) == (200, "ConfigMap")
    assert answer.json["metadata"]["deletionTimestamp"]
    for query in ("", "?dryRun=All"):
        taken = await raw("POST", CONFIG_MAPS + query, config_map())
        assert (taken.status, taken.reason) == (409, "AlreadyExists")
        assert taken.message == 'object is being deleted: configmaps "c" already exists'
    revision = answer.json["metadata"]["resourceVersion"]
    again = await raw("DELETE", f"{CONFIG_MAPS}/c")
    assert again.json["metadata"]["resourceVersion"] == revision
    more = await raw(
        "PATCH",
        f"{CONFIG_MAPS}/c",
        {"metadata": {"finalizers": ["example.com/f", "example.com/g"]}},
        Content_Type=MERGE,
    )
    assert more.status == 422
    assert "no new finalizers can be added if the object is being deleted" in more.message
    last = await raw("PATCH", f"{CONFIG_MAPS}/c", {"metadata": {"finalizers": None}}, Content_Type=MERGE)
    assert last.status == 200
    assert (await raw("GET", f"{CONFIG_MAPS}/c")).status == 404


async def test_propagation_policies_leave_notes_for_the_collector(raw: Any) -> None:
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        await raw.create(CONFIG_MAPS, config_map(policy.lower()))
        body = {"propagationPolicy": policy}
        answer = await raw("DELETE", f"{CONFIG_MAPS}/{policy.lower()}", body)
        assert answer.json["metadata"]["finalizers"] == [finalizer]
    answer = await raw("DELETE", f"{CONFIG_MAPS}/orphan", {"propagationPolicy": "Background"})
    assert answer.json["status"] == "Success"
    answer = await raw("DELETE", f"{CONFIG_MAPS}/foreground?propagationPolicy=Sideways")
    assert answer.status == 422


async def test_what_the_collector_does_not_follow_is_never_left_to_it(raw: Any) -> None:
    for path, obj in (
        ("/api/v1/namespaces/default/events", {"involvedObject": {"namespace": "default"}}),
        ("/apis/coordination.k8s.io/v1/namespaces/default/leases", {"spec": {"holderIdentity": "x"}}),
    ):
        for policy in ("Foreground", "Orphan"):
            await raw.create(path, {"metadata": {"name": "x"}, **obj})
            assert (await raw("DELETE", f"{path}/x?propagationPolicy={policy}")).json["status"] == "Success"


async def test_an_unscheduled_pod_goes_at_once(raw: Any) -> None:
    await raw.create(PODS, pod())
    answer = await raw("DELETE", f"{PODS}/p")
    assert (answer.status, answer.json["kind"]) == (200, "Pod")
    assert (await raw("GET", f"{PODS}/p")).status == 404


async def test_a_scheduled_pod_is_given_time_which_can_only_get_shorter(raw: Any) -> None:
    await raw.create(PODS, pod(nodeName="node-1"))
    answer = await raw("DELETE", f"{PODS}/p")
    assert answer.json["metadata"]["deletionGracePeriodSeconds"] == 30
    assert answer.json["metadata"]["generation"] == 2
    longer = await raw("DELETE", f"{PODS}/p?gracePeriodSeconds=60")
    assert longer.json["metadata"]["deletionGracePeriodSeconds"] == 30
    shorter = await raw("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 5})
    assert shorter.json["metadata"]["deletionGracePeriodSeconds"] == 5
    assert shorter.json["metadata"]["deletionTimestamp"] < answer.json["metadata"]["deletionTimestamp"]
    at_once = await raw("DELETE", f"{PODS}/p?gracePeriodSeconds=0")
    assert at_once.status == 200
    assert (await raw("GET", f"{PODS}/p")).status == 404


async def test_a_finished_pod_needs_no_grace(raw: Any) -> None:
    await raw.create(PODS, pod(nodeName="node-1"))
    await raw("PATCH", f"{PODS}/p/status", {"status": {"phase": "Succeeded"}}, Content_Type=MERGE)
    await raw("DELETE", f"{PODS}/p")
    assert (await raw("GET", f"{PODS}/p")).status == 404


@pytest.mark.parametrize(("own", "asked"), [(2**62, None), (30, 2**62)])
async def test_a_grace_beyond_all_dates_is_kept_and_may_be_shortened(
    raw: Any, own: int, asked: int | None
) -> None:
    await raw.create(PODS, pod(nodeName="node-1", terminationGracePeriodSeconds=own))
    answer = await raw("DELETE", f"{PODS}/p", {} if asked is None else {"gracePeriodSeconds": asked})
    assert (answer.status, answer.json["metadata"]["deletionGracePeriodSeconds"]) == (200, 2**62)
    shorter = await raw("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 5})
    assert shorter.json["metadata"]["deletionGracePeriodSeconds"] == 5
    await raw("DELETE", f"{PODS}/p?gracePeriodSeconds=0")
    assert (await raw("GET", f"{PODS}/p")).status == 404


async def test_collections_are_deleted_by_selector(raw: Any) -> None:
    for name, color in (("a", "red"), ("b", "red"), ("c", "blue")):
        await raw.create(CONFIG_MAPS, config_map(name, labels={"color": color}))
    answer = await raw("DELETE", f"{CONFIG_MAPS}?labelSelector=color%3Dred")
    assert (answer.status, len(answer.json["items"])) == (200, 2)
    left = (await raw.get(CONFIG_MAPS))["items"]
    assert [each["metadata"]["name"] for each in left] == ["c"]
    assert (await raw("DELETE", "/api/v1/namespaces")).status == 405


async def test_a_namespace_waits_for_its_finalizer(raw: Any) -> None:
    made = await raw.create("/api/v1/namespaces", {"metadata": {"name": "n"}})
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["status"] == {"phase": "Active"}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    answer = await raw("DELETE", "/api/v1/namespaces/n")
    assert (answer.status, answer.json["status"]["phase"]) == (200, "Terminating")
    revived = await raw(
        "PATCH", "/api/v1/namespaces/n/status", {"status": {"phase": "Active"}}, Content_Type=MERGE
    )
    assert revived.message == (
        'Namespace "n" is invalid: status.Phase: Invalid value: "Active": '
        "may only be 'Terminating' if `deletionTimestamp` is not empty"
    )
    refused = await raw("POST", "/api/v1/namespaces/n/configmaps", config_map())
    assert (refused.status, refused.reason) == (403, "Forbidden")
    assert refused.message == (
        'configmaps "c" is forbidden: unable to create new content in namespace n because it is being terminated'
    )
    assert refused.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    current = await raw.get("/api/v1/namespaces/n")
    assert (await raw("PUT", "/api/v1/namespaces/n", {**current, "spec": {}})).status == 200
    assert (await raw.get("/api/v1/namespaces/n"))["spec"] == {"finalizers": ["kubernetes"]}
    done = await raw("PUT", "/api/v1/namespaces/n/finalize", {"metadata": {"name": "n"}, "spec": {}})
    assert done.status == 200
    assert (await raw("GET", "/api/v1/namespaces/n")).status == 404


class RacingStore(MemoryStore):
    """Something else is committed in the instant before the next commit that depends on the namespace."""

    race: Callable[[], Awaitable[None]] | None = None

    async def commit(self, operations: Sequence[Operation]) -> Revision:
        if self._racing(operations):
            race, self.race = self.race, None
            assert race is not None
            await race()
        return await super().commit(operations)

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[Revision]:
        if self._racing(operations):
            raise Undecided("it hangs on what happens in between")
        return super().submit(operations)

    def _racing(self, operations: Sequence[Operation]) -> bool:
        return self.race is not None and any(isinstance(each, Expect) for each in operations)


async def test_nothing_is_created_in_the_instant_a_namespace_turns_to_go() -> None:
    store = RacingStore()
    async with running_apiserver(store) as api, RestClient(api.admin_config, user_agent="test") as client:
        await client.create(NAMESPACES, {"metadata": {"name": "n"}})

        async def end() -> None:
            await client.delete(NAMESPACES, "n")

        store.race = end
        service = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"ports": [{"port": 80}]}}
        pinned = {**service, "spec": {**service["spec"], "clusterIP": "10.96.7.7"}}
        with pytest.raises(Forbidden, match="unable to create new content in namespace n"):
            await client.create(SERVICE_ROW, pinned)
        assert (await client.list(SERVICE_ROW, "n"))["items"] == []
        pinned["metadata"] = {"name": "s", "namespace": "default"}
        made = await client.create(SERVICE_ROW, pinned)
        assert made["spec"]["clusterIP"] == "10.96.7.7", "what was reserved is free again"
    await store.close()


async def test_a_namespace_that_only_changes_refuses_nobody() -> None:
    store = RacingStore()
    async with running_apiserver(store) as api, RestClient(api.admin_config, user_agent="test") as client:
        await client.create(NAMESPACES, {"metadata": {"name": "n"}})

        async def label() -> None:
            await client.patch(NAMESPACES, "n", {"metadata": {"labels": {"x": "y"}}})

        store.race = label
        made = await client.create(
            SERVICE_ROW,
            {"metadata": {"generateName": "s-", "namespace": "n"}, "spec": {"ports": [{"port": 80}]}},
        )
        assert made["metadata"]["name"].startswith("s-")
        assert store.race is None
    await store.close()


async def test_a_large_collection_goes_whole_and_once(raw: Any) -> None:
    for number in range(100):
        await raw.create(
            CONFIG_MAPS, config_map(f"c{number}", finalizers=["example.com/f"] if number < 3 else [])
        )
    dry = await raw("DELETE", f"{CONFIG_MAPS}?dryRun=All")
    assert (dry.status, len((await raw.get(CONFIG_MAPS))["items"])) == (200, 100)
    answer = await raw("DELETE", CONFIG_MAPS)
    assert (answer.status, len(answer.json["items"])) == (200, 100)
    left = (await raw.get(CONFIG_MAPS))["items"]
    assert sorted(each["metadata"]["name"] for each in left) == ["c0", "c1", "c2"]
    assert all(each["metadata"]["deletionTimestamp"] for each in left)


async def test_the_system_namespaces_cannot_be_deleted(raw: Any) -> None:
    answer = await raw("DELETE", "/api/v1/namespaces/default")
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert answer.message == 'namespaces "default" is forbidden: this namespace may not be deleted'


async def test_the_endpoints_of_a_service_go_with_it(raw: Any) -> None:
    await raw.create(SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    subsets = [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]
    endpoints = "/api/v1/namespaces/default/endpoints"
    await raw.create(endpoints, {"metadata": {"name": "s"}, "subsets": subsets})
    await raw("DELETE", f"{SERVICES}/s")
    assert (await raw("GET", f"{endpoints}/s")).status == 404


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def _message(api_version: bytes, kind: bytes, content: bytes) -> bytes:
    return b"k8s\x00" + _field(1, _field(1, api_version) + _field(2, kind)) + _field(2, content)


@pytest.mark.parametrize("api_version", [b"v1", b"apps/v1", b"meta.k8s.io/v1"])
async def test_deletion_options_may_come_as_protobuf(raw: Any, api_version: bytes) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    made = await raw.create(path, {"metadata": {"name": "c"}})
    protobuf = "application/vnd.kubernetes.protobuf"
    wrong = _message(api_version, b"DeleteOptions", _field(2, _field(1, b"other")))
    refused = await raw("DELETE", f"{path}/c", wrong, Content_Type=protobuf)
    assert (refused.status, refused.reason) == (409, "Conflict")
    dry = _message(api_version, b"DeleteOptions", _field(5, b"All"))
    assert (await raw("DELETE", f"{path}/c", dry, Content_Type=protobuf)).status == 200
    right = _message(api_version, b"DeleteOptions", _field(2, _field(1, made["metadata"]["uid"].encode())))
    assert (await raw("DELETE", f"{path}/c", right, Content_Type=protobuf)).status == 200
    assert (await raw("GET", f"{path}/c")).status == 404


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "couldn't get version/kind; json parse error: unexpected end of JSON input"),
        (
            b'{"kind": "Pod", "apiVersion": "v1"}',
            'no kind "Pod" is registered for version "v1" in scheme '
            '"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"',
        ),
        (
            b'{"gracePeriodSeconds": "x"}',
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
        ),
        (b'{"apiVersion": "a/b/c"}', "unexpected GroupVersion string: a/b/c"),
    ],
)
async def test_options_that_cannot_be_read_delete_nothing(raw: Any, body: bytes, told: str) -> None:
    await raw.create(CONFIG_MAPS, {"metadata": {"name": "c"}})
    for path in (f"{CONFIG_MAPS}/c", CONFIG_MAPS):
        answer = await raw("DELETE", path, body)
        assert (answer.status, answer.message) == (400, told)
    await raw.get(f"{CONFIG_MAPS}/c")


async def test_what_options_may_be_is_told_in_their_order(raw: Any) -> None:
    answer = await raw("DELETE", f"{CONFIG_MAPS}/c?propagationPolicy=Sideways&orphanDependents=1&dryRun=No")
    assert answer.status == 422
    assert [cause["message"] for cause in answer.json["details"]["causes"]] == [
        'Invalid value: "Sideways": orphanDependents and deletionPropagation cannot be both set',
        'Unsupported value: "Sideways": supported values: "Foreground", "Background", "Orphan", "nil"',
        'Unsupported value: ["No"]: supported values: "All"',
    ]


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "9" * 5000])
async def test_an_option_that_no_integer_holds_is_out_of_range(raw: Any, number: str) -> None:
    for method, query in (("GET", "limit"), ("DELETE", "gracePeriodSeconds")):
        answer = await raw(method, f"{CONFIG_MAPS}?{query}={number}")
        assert (answer.status, answer.message) == (
            400,
            f'strconv.ParseInt: parsing "{number}": value out of range',
        )


async def test_a_timeout_that_is_no_duration_is_refused(raw: Any) -> None:
    told = 'invalid timeout specified in the request URL - time: invalid duration "soon"'
    answer = await raw("DELETE", f"{CONFIG_MAPS}/c?timeout=soon")
    assert (answer.status, answer.message) == (400, told)
    assert (await raw("GET", f"{CONFIG_MAPS}?timeout=1m")).status == 200
