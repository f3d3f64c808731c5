from __future__ import annotations

from pathlib import Path

import pytest

from nodeport.api.resources import DEPLOYMENTS, NODES, PODS, SERVICES
from nodeport.cli.errors import UserError
from nodeport.cli.manifests import objects_of, read_manifests
from nodeport.cli.selection import Selection, one_resource, resources_named, select, spelled, type_and_name
from nodeport.cli.session import Session
from nodeport.client.config import ClientConfig


@pytest.fixture
def session() -> Session:
    return Session(ClientConfig(server="https://127.0.0.1:1"), namespace="here")


@pytest.mark.parametrize("word", ["svc", "service", "services", "SVC", "Service"])
def test_a_type_has_many_spellings(word: str) -> None:
    assert one_resource(word) is SERVICES


def test_a_qualified_type_is_understood() -> None:
    assert one_resource("deployments.apps") is DEPLOYMENTS


def test_types_are_listed_with_commas_and_come_once_each() -> None:
    assert resources_named("svc,pods,services") == [SERVICES, PODS]


def test_all_stands_for_the_workloads_and_services() -> None:
    assert {SERVICES, PODS, DEPLOYMENTS} < set(resources_named("all"))
    assert NODES not in resources_named("all")


def test_names_follow_the_type_or_join_it_with_a_slash() -> None:
    assert select(["svc", "a", "b"]) == [Selection(SERVICES, ("a", "b"))]
    assert select(["svc/a", "pod/b"]) == [Selection(SERVICES, ("a",), True), Selection(PODS, ("b",), True)]
    assert select(["svc,pods"]) == [Selection(SERVICES, (), True), Selection(PODS, (), True)]


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "which resource"), (["nonsense"], 'a resource type "nonsense"'), (["svc/a", "b"], "separate argument"),
     (["svc/a/b"], "more than one slash"), (["svc/"], "slash"), (["all/x"], "one resource type")],
)  # fmt: skip
def test_what_cannot_be_understood_is_said_in_one_sentence(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(words)


def test_some_commands_want_exactly_one_object() -> None:
    assert type_and_name(["deploy/web"], "usage") == (DEPLOYMENTS, "web")
    with pytest.raises(UserError, match="exactly one"):
        type_and_name(["deploy", "a", "b"], "usage")


def test_objects_are_spelled_with_their_group() -> None:
    assert [spelled(SERVICES, "a"), spelled(DEPLOYMENTS, "b")] == ["service/a", "deployment.apps/b"]


def test_documents_and_lists_are_taken_apart() -> None:
    text = "kind: A\n---\n# nothing\n---\nkind: List\nitems: [{kind: B}, {kind: CList, items: [{kind: D}]}]\n"
    assert [obj["kind"] for obj in objects_of(text, "f")] == ["A", "B", "D"]
    assert [obj["kind"] for obj in objects_of('{"kind": "A"}', "f")] == ["A"]


@pytest.mark.parametrize("text", ["a: [", '{"a": ]', "just text", "- 1\n"])
def test_a_malformed_file_is_named(text: str) -> None:
    with pytest.raises(UserError, match="error parsing f.yaml"):
        list(objects_of(text, "f.yaml"))


def manifest(folder: Path, text: str) -> str:
    file = folder / "m.yaml"
    file.write_text(text)
    return str(file)


SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"


def test_a_manifest_goes_into_its_own_namespace_else_the_session_s(tmp_path: Path, session: Session) -> None:
    text = f"{SERVICE}---\n{SERVICE.replace('web', 'web, namespace: there')}---\n{SERVICE.replace('Service', 'Node')}"
    found = read_manifests([manifest(tmp_path, text)], session, namespace_given=False)
    assert [found_one.path for found_one in found] == [
        "/api/v1/namespaces/here/services/web", "/api/v1/namespaces/there/services/web", "/api/v1/nodes/web",
    ]  # fmt: skip


def test_two_namespaces_that_differ_are_a_mistake(tmp_path: Path, session: Session) -> None:
    file = manifest(tmp_path, SERVICE.replace("web", "web, namespace: there"))
    with pytest.raises(UserError, match='namespace from the provided object "there" does not match'):
        read_manifests([file], session, namespace_given=True)


def test_a_folder_stands_for_its_manifests_in_order_of_name(tmp_path: Path, session: Session) -> None:
    for name in ("b.yaml", "a.yml", "c.txt"):
        (tmp_path / name).write_text(SERVICE.replace("web", name[0]))
    found = read_manifests([str(tmp_path)], session, namespace_given=False)
    assert [one.name for one in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("kind: Service\nmetadata: {name: a}", "apiVersion not set"), ("apiVersion: v1\nmetadata: {name: a}", "kind not set"),
     ("apiVersion: v1\nkind: Service", "without metadata.name"), ("# nothing", "no objects"),
     ("apiVersion: v2\nkind: Srvice\nmetadata: {name: a}", 'no matches for kind "Srvice" in version "v2"')],
)  # fmt: skip
def test_what_is_missing_in_a_manifest_is_named(
    tmp_path: Path, session: Session, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_manifests([manifest(tmp_path, text)], session, namespace_given=False)


def test_a_file_that_does_not_exist_is_named(session: Session) -> None:
    with pytest.raises(UserError, match='the path "/none.yaml" does not exist'):
        read_manifests(["/none.yaml"], session, namespace_given=False)
