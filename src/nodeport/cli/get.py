"""``nodeport get``"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.status import ApiError, BadRequest, NotFound
from nodeport.cli.errors import ServerRefused, UserError
from nodeport.cli.printing import FORMATS, TablePrinter, print_objects, rendered, without_managed_fields
from nodeport.cli.selection import Selection, select, spelled
from nodeport.cli.session import JSON, TABLE, Session, connected


@dataclass(frozen=True, slots=True)
class Options:
    output: str
    label_selector: str
    field_selector: str
    all_namespaces: bool
    watch: bool
    show_labels: bool
    no_headers: bool
    ignore_not_found: bool

    @property
    def as_table(self) -> bool:
        return self.output in ("", "wide")

    @property
    def selectors(self) -> dict[str, object]:
        return {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}


@click.command("get")
@click.argument("what", nargs=-1, metavar="TYPE[,TYPE] [NAME...] | TYPE/NAME...")
@click.option("-o", "--output", default="", type=click.Choice(("", *FORMATS)), metavar="|".join(FORMATS),
              help="Show more columns, or whole objects.")  # fmt: skip
@click.option("-l", "--selector", "label_selector", default="", help="Only objects with these labels.")
@click.option("--field-selector", default="", help="Only objects with these field values.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Then go on showing what changes.")
@click.option("--show-labels", is_flag=True, help="Show labels as the last column.")
@click.option("--no-headers", is_flag=True, help="Do not print headings.")
@click.option("--ignore-not-found", is_flag=True, help="Say nothing of objects that do not exist.")
@connected
def command(session: Session, what: tuple[str, ...], **given: object) -> None:
    """Show objects: services, pods, nodes, deployments, endpointslices and all other types.

    \b
    nodeport get svc,pods -o wide
    nodeport get service my-nodeport-service -o yaml
    nodeport get nodes -w
    """
    options = Options(**given)  # type: ignore[arg-type]  # click has checked each of them
    selections = select(what)
    _check(selections, options)
    if options.watch:
        _watch(session, selections[0], options)
    elif options.as_table:
        _show_tables(session, selections, options)
    else:
        _show_objects(session, selections, options)


def _check(selections: Sequence[Selection], options: Options) -> None:
    if any(selection.names for selection in selections):
        if options.label_selector or options.field_selector:
            raise UserError("name cannot be provided when a selector is specified")
        if options.all_namespaces:
            raise UserError("a resource cannot be retrieved by name across all namespaces")
    if options.watch and (len(selections) != 1 or len(selections[0].names) > 1):
        raise UserError("you may only specify a single resource type, and at most one name, with --watch")


class _Failures:
    """Refusals are told as they come, the others are still shown, and the exit code is 1."""

    def __init__(self, options: Options) -> None:
        self._ignored = ("NotFound",) if options.ignore_not_found else ()
        self.any = False

    def add(self, error: ApiError) -> None:
        if error.reason not in self._ignored:
            ServerRefused(error).show()
            self.any = True

    def exit(self) -> None:
        if self.any:
            sys.exit(1)


def _namespace(session: Session, resource: Resource, options: Options) -> str:
    return session.namespace if resource.namespaced and not options.all_namespaces else ""


def _fetch(
    session: Session, selection: Selection, options: Options, accept: str, failures: _Failures
) -> list[JsonObject]:
    """The answers: one for the collection, or one for each name that there is."""
    resource = selection.resource
    namespace = _namespace(session, resource, options)
    query = {} if selection.names else options.selectors
    answers = []
    for name in selection.names or ("",):
        try:
            answers.append(session.get(resource.path(namespace, name), query, accept=accept))
        except ApiError as error:
            failures.add(_explained(error, resource, query))
    return answers


def _explained(error: ApiError, resource: Resource, query: Mapping[str, object]) -> ApiError:
    """With the selectors that were asked for, as kubectl words it."""
    if not any(query.values()) or not isinstance(error, BadRequest | NotFound):
        return error
    what = f"{resource.group}/{resource.version}, Resource={resource.plural}"
    return type(error)(
        f'Unable to find "{what}" that match label selector "{query["labelSelector"]}", '
        f'field selector "{query["fieldSelector"]}": {error.message}'
    )


def _show_tables(session: Session, selections: Sequence[Selection], options: Options) -> None:
    failures = _Failures(options)
    printed = False
    for selection in _joined(selections):
        tables = _fetch(session, selection, options, TABLE, failures)
        rows = [row for table in tables for row in table.get("rows") or []]
        if not rows:
            continue
        if printed:
            click.echo()
        printed = True
        _printer(selection, options).print({**tables[0], "rows": rows})
    if not printed and not failures.any and not any(selection.names for selection in selections):
        namespaced = any(selection.resource.namespaced for selection in selections)
        where = f" in {session.namespace} namespace." if namespaced and not options.all_namespaces else ""
        click.echo(f"No resources found{where}", err=True)
    failures.exit()


def _joined(selections: Sequence[Selection]) -> list[Selection]:
    """``svc/a svc/b`` as one table."""
    joined: dict[str, Selection] = {}
    for selection in selections:
        name = selection.resource.qualified_name
        before = joined[name].names if name in joined else ()
        joined[name] = Selection(selection.resource, before + selection.names, selection.several)
    return list(joined.values())


def _printer(selection: Selection, options: Options) -> TablePrinter:
    return TablePrinter(
        selection.resource,
        wide=options.output == "wide",
        with_namespace=options.all_namespaces,
        with_kind=selection.several,
        with_labels=options.show_labels,
        headings=not options.no_headers,
    )


def _show_objects(session: Session, selections: Sequence[Selection], options: Options) -> None:
    failures = _Failures(options)
    found: list[tuple[Resource, JsonObject]] = []
    for selection in selections:
        for answer in _fetch(session, selection, options, JSON, failures):
            objects = answer.get("items") or [] if not selection.names else [answer]
            found += [(selection.resource, _typed(selection.resource, obj)) for obj in objects]
    if options.output == "name":
        for resource, obj in found:
            click.echo(spelled(resource, obj["metadata"]["name"]))
    else:
        single = len(selections) == 1 and len(selections[0].names) == 1
        if found or not single:
            print_objects([obj for _, obj in found], options.output, as_list=not single)
    failures.exit()


def _typed(resource: Resource, obj: JsonObject) -> JsonObject:
    """The items of a list do not say what they are; the list does."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **obj}


def _watch(session: Session, selection: Selection, options: Options) -> None:
    """What there is, then every change, until the server or the user ends it."""
    resource = selection.resource
    namespace = _namespace(session, resource, options)
    query = dict(options.selectors)
    if selection.names:
        session.get(resource.path(namespace, selection.names[0]))
        query["fieldSelector"] = f"metadata.name={selection.names[0]}"
    accept = TABLE if options.as_table else JSON
    listing = session.get(resource.path(namespace), query, accept=accept)
    shown = _Shown(selection, options)
    shown.add(listing)
    sys.stdout.flush()
    query["resourceVersion"] = listing["metadata"]["resourceVersion"]
    for event in session.watch(resource.path(namespace), query, accept=accept):
        if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
            shown.add(event["object"])
            sys.stdout.flush()


class _Shown:
    """The output of a watch: every answer below the one before it."""

    def __init__(self, selection: Selection, options: Options) -> None:
        self._resource = selection.resource
        self._options = options
        self._printer = _printer(selection, options)

    def add(self, answer: JsonObject) -> None:
        """Print a Table, a list or one object."""
        if self._options.as_table:
            self._printer.print(answer)
            return
        for item in answer.get("items", [answer]):
            obj = without_managed_fields(_typed(self._resource, item))
            if self._options.output == "name":
                click.echo(spelled(self._resource, obj["metadata"]["name"]))
            else:
                separator = "---\n" if self._options.output == "yaml" else ""
                click.echo(separator + rendered(obj, self._options.output).rstrip("\n"))
