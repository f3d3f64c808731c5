"""``nodeport scale``"""

from __future__ import annotations

import click

from nodeport.api.resources import RESOURCES
from nodeport.api.status import ApiError, Conflict
from nodeport.cli.errors import ServerRefused, UserError
from nodeport.cli.selection import spelled, type_and_name
from nodeport.cli.session import FIELD_MANAGER, MERGE_PATCH, Session, connected, object_path


@click.command("scale")
@click.argument("what", nargs=-1, required=True, metavar="TYPE NAME | TYPE/NAME")
@click.option("--replicas", type=click.IntRange(min=0), required=True, help="How many pods there shall be.")
@click.option("--current-replicas", type=int, default=-1, help="Only if there are that many now.")
@connected
def command(session: Session, what: tuple[str, ...], replicas: int, current_replicas: int) -> None:
    """Set how many pods a deployment, replica set, replication controller or stateful set runs.

    \b
    nodeport scale deployment my-deployment --replicas=5
    """
    resource, name = type_and_name(what, "nodeport scale deployment NAME --replicas=N")
    if resource.subresource("scale") is None:
        scalable = ", ".join(row.plural for row in RESOURCES if row.subresource("scale") is not None)
        raise UserError(f"{resource.plural} cannot be scaled; {scalable} can")
    path = object_path(resource, session, name, "scale")
    patch: dict[str, object] = {"spec": {"replicas": replicas}}
    try:
        if current_replicas >= 0:
            scale = session.get(path)
            found = (scale.get("spec") or {}).get("replicas") or 0
            if found != current_replicas:
                raise UserError(f"expected replicas to be {current_replicas}, was {found}")
            patch["metadata"] = {"resourceVersion": scale["metadata"]["resourceVersion"]}
        session.request(
            "PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=patch, content_type=MERGE_PATCH
        )
    except Conflict as error:
        raise UserError(f"{spelled(resource, name)} changed meanwhile; look again and repeat") from error
    except ApiError as error:
        raise ServerRefused(error) from error
    click.echo(f"{spelled(resource, name)} scaled")
