"""The options that every command about a local cluster takes."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nodeport.cli.errors import UserError
from nodeport.netlink.codec import NetlinkError
from nodeport.node.addresses import AddressesExhausted
from nodeport.node.local import DATA_ROOT, DEFAULT_NAME, RUN_ROOT, Paths, load
from nodeport.node.localoptions import LocalError, check_name, parse_log_size

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def about_cluster(function: Command) -> Command:
    """Adds --name, --data-root and --run-root; the function gets ``paths``. Errors become one sentence."""

    @click.option("--name", default=DEFAULT_NAME, show_default=True, help="The cluster's name.")
    @click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        default=DATA_ROOT,
        show_default=True,
        help="Where clusters keep what must last.",
    )
    @click.option(
        "--run-root",
        type=click.Path(path_type=Path),
        default=RUN_ROOT,
        show_default=True,
        help="Where clusters keep what a reboot may take.",
    )
    @functools.wraps(function)
    def wrapped(name: str, data_root: Path, run_root: Path, **options: Any) -> Any:
        try:
            paths = Paths(check_name(name), data_root.absolute(), run_root.absolute())
            return function(paths=paths, **options)
        except (LocalError, AddressesExhausted) as error:
            raise UserError(str(error)) from error
        except BrokenPipeError:
            raise  # the reader of our output has gone: no error of the cluster
        except (OSError, NetlinkError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"cluster {name!r}: the disk is full: make room below {data_root} and {run_root}, then run the "
                    "command again"
                ) from error
            raise UserError(f"cluster {name!r}: {error}") from error

    return wrapped


def service_ranges(function: Command) -> Command:
    """Adds the options of kube-apiserver that say which addresses and ports Services get."""
    return _with_options(
        function,
        click.option(
            "--service-cluster-ip-range", default=None,
            help="Addresses of Services: a CIDR, or one of each family parted by a comma, the primary family first."
            "  [default: 10.96.0.0/16,fd00:10:96::/112, or that of the --ip-family]",
        ),
        click.option(
            "--service-node-port-range", default=None,
            help="Ports of NodePort Services: FIRST-LAST, FIRST+MORE or PORT.  [default: 30000-32767]",
        ),
    )  # fmt: skip


LIMIT_OPTIONS = (
    (
        "--max-requests-inflight",
        "reading",
        400,
        "Reading requests served at once; a client gets half of them.",
    ),
    ("--max-mutating-requests-inflight", "mutating", 200, "Changing requests served at once."),
    ("--max-waiting-requests-per-client", "waiting", 200, "Requests of a client that wait for their turn."),
    ("--max-streams-per-client", "streams", 2_000, "Watches, logs and sessions that a client has open."),
    ("--max-connections", "connections", 10_000, "Connections; one address gets half of them."),
    ("--max-handshakes", "handshakes", 1_000, "TLS handshakes at a time; one address gets half of them."),
    ("--max-unread-bytes-per-client", "unread_bytes", 268_435_456, "Bytes that a client may leave unread."),
    ("--max-request-body-bytes", "body_bytes", 3_145_728, "Bytes of a request's body."),
    ("--max-request-header-bytes", "header_bytes", 65_536, "Bytes of a line of a request's head."),
)
"""Option, field of the API server's limits, its default, and what it bounds."""


def request_limits(function: Command) -> Command:
    """Adds options for what clients may use up; the function gets ``limits``, those that were given by field."""

    @functools.wraps(function)
    def wrapped(**options: Any) -> Any:
        given = {field: options.pop(field) for _, field, _, _ in LIMIT_OPTIONS}
        return function(
            limits={field: value for field, value in given.items() if value is not None}, **options
        )

    return _with_options(
        wrapped,
        *(
            click.option(
                option, field, type=click.IntRange(min=1), default=None, help=f"{text}  [default: {default}]"
            )
            for option, field, default, text in LIMIT_OPTIONS
        ),
    )


def must_be_root(command: str) -> None:
    """Namespaces and links are the kernel's: only root may make them."""
    if os.geteuid() != 0:
        raise UserError(f"`nodeport {command}` must run as root (it makes network namespaces): try sudo")


def must_exist(paths: Paths) -> None:
    """A part of a cluster serves one that `up` made; it makes none by itself."""
    if load(paths) is None:
        raise UserError(f"there is no cluster {paths.name!r} in {paths.data_root}: `nodeport up` makes one")


def must_have_runtime() -> None:
    from nodeport.node.oci import program

    try:
        program.find()
    except program.RuntimeMissing as error:
        raise UserError(str(error)) from error


def checked_image(text: str) -> str:
    """``NAME=PATH`` with the whole path. Raises UserError."""
    from nodeport.node.images.host import BadHostImage, parse_mapping

    try:
        mapping = parse_mapping(text)
        mapping.check()
    except BadHostImage as error:
        raise UserError(str(error)) from error
    return str(mapping)


def image_options(function: Command) -> Command:
    """Adds options that say which images there are and where others are pulled from; the function gets ``images``,
    ``default_registry`` (None: not said) and ``insecure_registries``."""

    @functools.wraps(function)
    def wrapped(default_registry: str | None, insecure_registries: tuple[str, ...], **options: Any) -> Any:
        for option, host in (
            ("--default-registry", default_registry), *(("--insecure-registry", each) for each in insecure_registries)
        ):  # fmt: skip
            if host:
                _check_registry(option, host)
        return function(default_registry=default_registry, insecure_registries=insecure_registries, **options)

    return _with_options(
        wrapped,
        click.option(
            "--image", "images", metavar="NAME=PATH", multiple=True,
            help="Let this program, or this folder as root, of the machine be the image NAME; may be repeated.",
        ),
        click.option(
            "--default-registry", metavar="HOST[:PORT]", default=None,
            help="Pull images whose name has no registry from here; '' for nowhere.  [default: '']",
        ),
        click.option(
            "--insecure-registry", "insecure_registries", metavar="HOST[:PORT]", multiple=True,
            help="Speak plain HTTP to this registry, as to those on this machine; may be repeated.",
        ),
    )  # fmt: skip


def disk_options(default_eviction: str) -> Decorator:
    """Adds a kubelet's options for what pods may take of the disk; the function gets ``log_size``, ``log_files`` and
    ``eviction_hard``, None where nothing was said."""

    def added(function: Command) -> Command:
        @functools.wraps(function)
        def wrapped(log_size: str | None, eviction_hard: str | None, **options: Any) -> Any:
            _check_disk_options(log_size, eviction_hard)
            return function(log_size=log_size, eviction_hard=eviction_hard, **options)

        return _with_options(
            wrapped,
            click.option(
                "--container-log-max-size", "log_size", metavar="QUANTITY", default=None,
                help="Size of a container's log, such as 10Mi; then a new file is begun.  [default: 10Mi]",
            ),
            click.option(
                "--container-log-max-files", "log_files", type=click.IntRange(min=2), default=None,
                help="How many files of a container's log are kept.  [default: 5]",
            ),
            click.option(
                "--eviction-hard", metavar="SIGNAL<AMOUNT,...", default=None,
                help="End pods when the disk has less left than this, such as nodefs.available<10%; '' for never."
                f"  [default: {default_eviction or repr(default_eviction)}]",
            ),
        )  # fmt: skip

    return added


def _with_options(function: Command, *options: Decorator) -> Command:
    """In the order in which help shows them."""
    for option in reversed(options):
        function = option(function)
    return function


def _check_disk_options(log_size: str | None, eviction_hard: str | None) -> None:
    from nodeport.node.eviction import BadThreshold, parse_thresholds

    try:
        if log_size is not None:
            parse_log_size(log_size)
        parse_thresholds(eviction_hard or "")
    except LocalError as error:
        raise UserError(str(error)) from error
    except BadThreshold as error:
        raise UserError(f"--eviction-hard {error}") from error


def _check_registry(option: str, host: str) -> None:
    from nodeport.node.images.references import NotAReference, parse

    try:
        if parse(f"{host}/a").registry == host:
            return
    except NotAReference:
        pass
    raise UserError(f"{option} {host!r}: must be HOST:PORT, or a HOST with a dot in it")
