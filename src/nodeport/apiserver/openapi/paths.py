"""What can be done with a resource: its paths and their operations in OpenAPI version 3, derived from its row."""

from __future__ import annotations

from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.resources import GroupVersionKind, Resource, Subresource
from nodeport.apiserver.openapi import parameters
from nodeport.apiserver.openapi.components import (
    DELETE_OPTIONS,
    PATCH,
    STATUS,
    WATCH_EVENT,
    name_of,
    reference,
)

PRODUCED = ("application/json", "application/yaml")
CONSUMED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
PATCH_TYPES = (
    "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)  # fmt: skip
_WATCHED = ("application/json", "application/json;stream=watch")
_CONNECTIONS = frozenset(("attach", "exec", "portforward", "proxy"))
_METHODS = {"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
_WORDS = {"get": "read", "create": "create", "update": "replace", "patch": "patch", "delete": "delete"}
_TEXT: JsonObject = {"type": "string"}

Answers = dict[str, JsonObject]


def paths_of(row: Resource) -> JsonObject:
    """``{path: path item}`` of a resource: collections, objects, subresources, and the old way to watch."""
    return {path: item for path, item in _all_paths(row).items() if not {*item} <= {"parameters"}}


def _all_paths(row: Resource) -> JsonObject:
    namespace = "{namespace}" if row.namespaced else ""
    made: JsonObject = {row.path(namespace): _collection(row)}
    if row.namespaced:
        made[row.path()] = _all_namespaces(row)
    made[row.path(namespace, "{name}")] = _item(row)
    for sub in row.subresources:
        made[row.path(namespace, "{name}", sub.name)] = _subresource(row, sub)
        if sub.name == "proxy":
            made[row.path(namespace, "{name}", "proxy/{path}")] = _proxied(row, sub)
    if "watch" in row.verbs:
        made |= _watches(row, namespace)
    return made


def _content(types: tuple[str, ...], schema: JsonObject) -> JsonObject:
    return {kind: {"schema": schema} for kind in types}


def _answers(schema: JsonObject, *codes: str, types: tuple[str, ...] = PRODUCED) -> Answers:
    """Successes with ``codes``, and what every failure looks like."""
    words = {"200": "OK", "201": "Created", "101": "Switching Protocols"}
    found = {code: {"description": words[code], "content": _content(types, schema)} for code in codes}
    failure = {"description": "What went wrong.", "content": _content(PRODUCED[:1], reference(STATUS))}
    return {**found, "401": {"description": "Unauthorized"}, "default": failure}


def _body(schema: JsonObject, *, required: bool = True, types: tuple[str, ...] = CONSUMED) -> JsonObject:
    made: JsonObject = {"content": _content(types, schema)}
    return {**made, "required": True} if required else made


def _operation(
    row: Resource, action: str, name: str, text: str, responses: Answers, gvk: GroupVersionKind | None = None
) -> JsonObject:
    kind = gvk or row.gvk
    return {
        "tags": [f"{_group_word(row).lower()}_{row.version}"],
        "description": text,
        "operationId": name,
        "responses": responses,
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    }


def _group_word(row: Resource) -> str:
    """``Core``, ``Apps``, ``RbacAuthorization``."""
    words = row.group.removesuffix(".k8s.io").split(".") if row.group else ["core"]
    return "".join(word[:1].upper() + word[1:] for word in words)


def _name(row: Resource, verb: str, after: str = "", *, before: str = "", scoped: bool = True) -> str:
    """``createCoreV1NamespacedPodBinding``: how generated clients call the operation."""
    version = row.version[:1].upper() + row.version[1:]
    scope = "Namespaced" if row.namespaced and scoped else ""
    return f"{verb}{_group_word(row)}{version}{before}{scope}{row.kind}{after}"


def _list_schema(row: Resource) -> JsonObject:
    return reference(f"{row.schema}List")


def _with(operation: JsonObject, *query: str, body: JsonObject | None = None) -> JsonObject:
    made = {**operation, "parameters": parameters.query(*query)} if query else operation
    return {**made, "requestBody": body} if body is not None else made


def _listing(row: Resource, name: str) -> JsonObject:
    text = f"list or watch objects of kind {row.kind}"
    answers = _answers(_list_schema(row), "200", types=(*PRODUCED, _WATCHED[1]))
    answers["200"]["content"][_WATCHED[1]]["schema"] = reference(WATCH_EVENT)
    return _with(_operation(row, "list", name, text, answers), *parameters.LIST)


def _collection(row: Resource) -> JsonObject:
    item = reference(row.schema)
    made: JsonObject = {"parameters": parameters.of_path(row, item=False)}
    if "list" in row.verbs:
        made["get"] = _listing(row, _name(row, "list"))
    if "create" in row.verbs:
        operation = _operation(
            row, "post", _name(row, "create"), f"create a {row.kind}", _answers(item, "200", "201")
        )
        made["post"] = _with(operation, *parameters.WRITE, body=_body(item))
    if "deletecollection" in row.verbs:
        name = _name(row, "delete", before="Collection")
        text = f"delete a collection of {row.kind}"
        operation = _operation(
            row, "deletecollection", name, text, _answers(_list_schema(row), "200", types=PRODUCED[:1])
        )
        options = _body(reference(DELETE_OPTIONS), required=False)
        made["delete"] = _with(operation, *parameters.CHOOSE, *parameters.DELETE, body=options)
    return made


def _all_namespaces(row: Resource) -> JsonObject:
    made: JsonObject = {"parameters": parameters.of_path(row, item=False, namespace=False)}
    if "list" in row.verbs:
        made["get"] = _listing(row, _name(row, "list", "ForAllNamespaces", scoped=False))
    return made


def _item(row: Resource) -> JsonObject:
    schema = reference(row.schema)
    made: JsonObject = {"parameters": parameters.of_path(row, item=True)}
    for verb in ("get", "update", "patch"):
        if verb in row.verbs:
            made[_METHODS[verb]] = _writing(row, verb, schema, "", upsert=row.upsert)
    if "delete" in row.verbs:
        outcome = schema if row.returns_deleted else {"anyOf": [reference(STATUS), schema]}
        operation = _operation(
            row, "delete", _name(row, "delete"), f"delete a {row.kind}", _answers(outcome, "200")
        )
        options = _body(reference(DELETE_OPTIONS), required=False)
        made["delete"] = _with(operation, *parameters.DELETE, body=options)
    return made


def _writing(
    row: Resource,
    verb: str,
    schema: JsonObject,
    after: str,
    *,
    upsert: bool,
    gvk: GroupVersionKind | None = None,
) -> JsonObject:
    """get, update and patch of an object or a subresource."""
    what = f"{after.lower()} of the specified {row.kind}" if after else f"the specified {row.kind}"
    word = {"get": "read", "update": "replace", "patch": "partially update"}[verb]
    creates = verb == "patch" or (verb == "update" and upsert)
    answers = _answers(schema, "200", "201") if creates else _answers(schema, "200")
    name = _name(row, _WORDS[verb], after)
    operation = _operation(row, _METHODS[verb], name, f"{word} {what}", answers, gvk)
    match verb:
        case "get":
            return operation
        case "update":
            return _with(operation, *parameters.WRITE, body=_body(schema))
    body = _body(reference(PATCH), types=PATCH_TYPES)
    return _with(operation, *parameters.WRITE, "force", body=body)


def _subresource(row: Resource, sub: Subresource) -> JsonObject:
    after = sub.name[:1].upper() + sub.name[1:]
    made: JsonObject = {"parameters": parameters.of_path(row, item=True)}
    if sub.name in _CONNECTIONS:
        return made | _connections(row, sub, after)
    gvk = sub.kind or row.gvk
    found = row.schema if sub.kind is None else name_of(sub.kind)
    schema = reference(found) if found else _TEXT
    for verb in sub.verbs:
        if sub.name == "log":
            text = f"read log of the specified {row.kind}"
            operation = _operation(
                row, "get", _name(row, "read", after), text, _answers(_TEXT, "200", types=("text/plain",))
            )
            made["get"] = _with(operation, *parameters.OF_SUBRESOURCE["log"])
        elif verb == "create":
            text = f"create {sub.name} of a {row.kind}"
            outcome = {"anyOf": [schema, reference(STATUS)]}
            operation = _operation(
                row, "post", _name(row, "create", after), text, _answers(outcome, "200", "201"), gvk
            )
            made["post"] = _with(operation, *parameters.WRITE, body=_body(schema))
        elif verb in ("get", "update", "patch"):
            made[_METHODS[verb]] = _writing(row, verb, schema, after, upsert=False, gvk=gvk)
    return made


def _connections(row: Resource, sub: Subresource, after: str) -> JsonObject:
    made: JsonObject = {}
    for verb in sub.verbs:
        method = _METHODS[verb]
        name = _name(row, f"connect{method.capitalize()}", after)
        text = f"connect {method.upper()} requests to {sub.name} of {row.kind}"
        answers = _answers(_TEXT, "200", "101", types=("*/*",))
        operation = _operation(row, "connect", name, text, answers, sub.kind)
        made[method] = _with(operation, *parameters.OF_SUBRESOURCE.get(sub.name, ()))
    return made


def _proxied(row: Resource, sub: Subresource) -> JsonObject:
    made = {**_subresource(row, sub)}
    for method, operation in made.items():
        if method != "parameters":
            made[method] = {**operation, "operationId": f"{operation['operationId']}WithPath"}
            made[method].pop("parameters", None)
    segment = {
        "name": "path", "in": "path", "description": "path to the resource", "required": True,
        "schema": {"type": "string", "uniqueItems": True},
    }  # fmt: skip
    return {**made, "parameters": [*made["parameters"], segment]}


def _watches(row: Resource, namespace: str) -> JsonObject:
    """``/watch/`` paths: deprecated, and still understood."""
    base = row.base_path
    within = f"/namespaces/{namespace}" if namespace else ""

    def watch(name: str, action: str, **scope: Any) -> JsonObject:
        text = f"watch {row.kind}; deprecated: use the 'watch' parameter with a list operation instead"
        operation = _operation(
            row, action, name, text, _answers(reference(WATCH_EVENT), "200", types=_WATCHED)
        )
        made = parameters.of_path(row, **scope) + parameters.query(*(each for each in parameters.LIST))
        return {"get": operation, "parameters": made}

    found = {
        f"{base}/watch{within}/{row.plural}": watch(_name(row, "watch", "List"), "watchlist", item=False),
        f"{base}/watch{within}/{row.plural}/{{name}}": watch(_name(row, "watch"), "watch", item=True),
    }
    if namespace:
        name = _name(row, "watch", "ListForAllNamespaces", scoped=False)
        found[f"{base}/watch/{row.plural}"] = watch(name, "watchlist", item=False, namespace=False)
    return found
