"""``nodeport proxy``: the service proxy of one node of any cluster, in place of kube-proxy."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.exceptions import Exit

from nodeport import KUBERNETES_VERSION, __version__
from nodeport.api.kubeproxy.defaults import for_this_proxy, with_defaults
from nodeport.api.kubeproxy.flags import Flag, apply_flags, with_old_ports
from nodeport.api.kubeproxy.flagtable import BY_NAME, FLAGS, unheeded
from nodeport.api.kubeproxy.forms import BOOL
from nodeport.api.kubeproxy.text import ConfigurationError, read, write
from nodeport.api.kubeproxy.types import KubeProxyConfiguration
from nodeport.api.kubeproxy.validation import aggregate, validate
from nodeport.cli.errors import CannotTell, UserError, sentence, told
from nodeport.cli.pflag import PflagGroup

if TYPE_CHECKING:
    from nodeport.proxy.server import ProxyServer
    from nodeport.proxy.settings import ProxySettings

_CAP_NET_ADMIN: Final = 12
_VERIFY: Final = "verify"
_EPILOG = "Logs go to standard error. Rules stay when the proxy ends, and are taken over by the next one."


class _FlagType(click.ParamType[Any]):
    """A flag's text, read by its own form."""

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self.name = flag.form.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._flag.form.read(value) if isinstance(value, str) else value
        except ValueError as error:
            raise UserError(f'invalid argument "{value}" for "--{self._flag.name}" flag: {error}') from error


class _ProxyGroup(PflagGroup):
    booleans = frozenset(flag.name for flag in FLAGS if flag.form is BOOL) | {"version"}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _told_apart(lambda: _VERIFY in args):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _told_apart(lambda: ctx.invoked_subcommand == _VERIFY):
            return super().invoke(ctx)


@contextmanager
def _told_apart(compares: Callable[[], bool]) -> Iterator[None]:
    """Whatever keeps a command that ``compares`` from it, even a bug, must not look like a difference."""
    try:
        yield
    except (Exit, click.Abort):
        raise
    except click.ClickException as error:
        if compares():
            raise CannotTell(told(error)) from error
        raise
    except Exception as error:
        if not compares():
            raise
        traceback.print_exception(error)
        raise SystemExit(CannotTell.exit_code) from error


def _options() -> list[click.Parameter]:
    made: list[click.Parameter] = []
    for flag in FLAGS:
        text = f"{flag.help}  [default: {flag.default}]" if flag.default else flag.help
        made.append(click.Option([f"--{flag.name}"], type=_FlagType(flag), metavar=flag.form.name, help=text))
    return made


@click.group(
    cls=_ProxyGroup, invoke_without_command=True, params=_options(), epilog=_EPILOG,
    short_help="Run the service proxy of one node of any cluster, in place of kube-proxy.",
)  # fmt: skip
@click.option("--version", metavar="BOOLEAN", help="Print the version and exit.")
@click.pass_context
def command(ctx: click.Context, /, version: str | None, **options: Any) -> None:
    """Run the service proxy of one node of any Kubernetes cluster, with kube-proxy's flags, file, ports and metrics.

    The API is found by --kubeconfig, by --master, or as pods find it. What each flag does here, and what it does not,
    is in the reference of the proxy's flags.
    """
    if version and version != "false":
        click.echo(f"Kubernetes {KUBERNETES_VERSION} (nodeport {__version__})")
        ctx.exit()
    given = {BY_NAME[name.replace("_", "-")]: value for name, value in options.items() if value is not None}
    ctx.obj = given
    if ctx.invoked_subcommand is None:
        _run(given)


@command.command(_VERIFY, short_help="Say where the kernel is not what the cluster wants.")
@click.pass_obj
def verify(given: dict[Flag, Any]) -> None:
    """Compare this node's kernel with what the cluster wants of it now, and change nothing.

    Prints one line for each difference. Ends with 0 if there is none, 1 if there is any, and 2 if that cannot be told.
    Flags stand before the word verify.
    """
    from nodeport.proxy.leftovers import warning

    settings = _settings(given, configured(given))
    _must_administer_networks()
    server = _server(settings, None)
    found = asyncio.run(_or_sentence(server.verify()))
    if told := warning(settings.netns):
        click.echo(f"warning: {told}", err=True)
    for family, discrepancies in found.items():
        for it in discrepancies:
            click.echo(f"IPv{int(family)}: {it}")
    if any(found.values()):
        raise SystemExit(1)
    click.echo("the kernel is what the cluster wants")


@command.command("remove-kube-proxy", short_help="Take away what kube-proxy has left on this node.")
@click.pass_obj
def remove_kube_proxy(given: dict[Flag, Any]) -> None:
    """Take away the nftables tables and iptables chains that kube-proxy has left on this node, and nothing of ours.

    For after the change from kube-proxy, beside a running proxy: no packet goes without rules. Flags stand before
    the word remove-kube-proxy.
    """
    from nodeport.netlink.codec import NetlinkError
    from nodeport.proxy.kubeproxy import remove_leftovers

    netns = _netns(given)
    _must_administer_networks()
    try:
        remove_leftovers(netns)
    except (NetlinkError, OSError) as error:
        raise UserError(f"cannot remove what kube-proxy left: {error}") from error


def configured(given: dict[Flag, Any]) -> KubeProxyConfiguration:
    """The configuration that file and flags make, valid and complete. Says what has no effect."""
    path = given.get(BY_NAME["config"], "")
    config = _from_file(Path(path)) if path else with_defaults(KubeProxyConfiguration())
    config = apply_flags(config, given, beside_file=bool(path))
    if not path:
        ports = (given.get(BY_NAME[name]) for name in ("healthz-port", "metrics-port"))
        config = with_old_ports(config, *ports)
    minor = int(KUBERNETES_VERSION.split(".")[1])
    if errors := validate(config, minor=minor):
        raise UserError(f"failed validate: {aggregate(errors)}")
    for warning in unheeded(config, given):
        click.echo(f"warning: {warning}", err=True)
    return for_this_proxy(config)


def _from_file(path: Path) -> KubeProxyConfiguration:
    try:
        found = read(path.read_bytes())
    except OSError as error:
        raise UserError(f"failed complete: open {path}: {error.strerror}") from error
    except ConfigurationError as error:
        raise UserError(f"failed complete: {path}: {error}") from error
    if found.complaints:
        problems = ", ".join(found.complaints)
        click.echo(
            f"warning: {path}: using lenient decoding as strict decoding failed: strict decoding error: {problems}",
            err=True,
        )
    return with_defaults(found.config)


def _run(given: dict[Flag, Any]) -> None:
    config = configured(given)
    if target := given.get(BY_NAME["write-config-to"]):
        _write(Path(target), config)
        return
    if given.get(BY_NAME["cleanup"]):
        _clean_up(given)
        return
    if given.get(BY_NAME["init-only"]):
        _initialize(_settings(given, config))
        return
    from nodeport.cli.daemons import until_terminated
    from nodeport.kit.logs import configure

    _must_administer_networks()
    configure("DEBUG" if config.logging.verbosity >= 4 else "INFO", json=config.logging.format == "json")
    path = given.get(BY_NAME["config"], "")
    server = _server(_settings(given, config), Path(path) if path else None)
    asyncio.run(until_terminated(lambda: _or_sentence(server.run())))


def _must_administer_networks() -> None:
    """Whoever may not program the kernel is told at once, and what to do, instead of by each refusal of the kernel."""
    held = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if held is not None and not int(held[1], 16) >> _CAP_NET_ADMIN & 1:
        raise UserError(
            "programming the kernel takes CAP_NET_ADMIN, which this process does not have: run it as root, "
            "in a container with NET_ADMIN among securityContext.capabilities.add"
        )


def _write(target: Path, config: KubeProxyConfiguration) -> None:
    try:
        target.write_text(write(config))
    except OSError as error:
        raise UserError(f"open {target}: {error.strerror}") from error


def _netns(given: dict[Flag, Any]) -> Path | None:
    netns = given.get(BY_NAME["network-namespace"])
    if netns and not Path(netns).exists():
        raise UserError(f"--network-namespace: {netns} does not exist")
    return Path(netns) if netns else None


def _settings(given: dict[Flag, Any], config: KubeProxyConfiguration) -> ProxySettings:
    from nodeport.proxy.settings import ProxySettings

    name = config.hostnameOverride or socket.gethostname().strip().lower()
    return ProxySettings(
        config=config,
        node_name=name,
        master=given.get(BY_NAME["master"], ""),
        netns=_netns(given),
        keep_client_address=given.get(BY_NAME["keep-client-address"], True),
        localhost_nodeports=given.get(BY_NAME["localhost-nodeports"], False),
        service_counters=given.get(BY_NAME["service-counters"], False),
    )


def _server(settings: ProxySettings, watched: Path | None) -> ProxyServer:
    from nodeport.client.incluster import NotInCluster
    from nodeport.client.kubeconfig import KubeconfigError
    from nodeport.kit.clock import SystemClock
    from nodeport.proxy.server import ProxyServer
    from nodeport.proxy.settings import connection_loader

    try:
        return ProxyServer(settings, connection_loader(settings, os.environ), SystemClock(), watched)
    except (KubeconfigError, NotInCluster, ValueError, OSError) as error:
        raise UserError(str(error)) from error


async def _or_sentence(work: Any) -> Any:
    """What ends the proxy on purpose becomes one line and exit code 1; a bug keeps its traceback."""
    from nodeport.netlink.codec import NetlinkError
    from nodeport.proxy.proxier import ProxierError
    from nodeport.proxy.server import ProxyError

    try:
        return await work
    except BaseException as error:
        said = sentence(error, (ProxyError, ProxierError, NetlinkError, OSError))
        if said is None:
            raise
        raise UserError(said) from error


def _initialize(settings: ProxySettings) -> None:
    """What needs full root privileges; afterwards CAP_NET_ADMIN will do."""
    from nodeport.proxy.conntrack_settings import apply_settings

    if problems := apply_settings(settings.config.conntrack, os.cpu_count() or 1, settings.netns):
        raise UserError("; ".join(problems))


def _clean_up(given: dict[Flag, Any]) -> None:
    """Takes away what any mode left, in both families."""
    from nodeport.netlink.codec import NetlinkError
    from nodeport.proxy.claim import holder
    from nodeport.proxy.cleanup import remove_all
    from nodeport.proxy.proxier import ProxierError

    netns = _netns(given)
    _must_administer_networks()
    try:
        if running := holder(netns):
            click.echo(f"warning: a proxy is at work here, which puts its rules back: {running}", err=True)
        also = given.get(BY_NAME["also-kube-proxy"], False)
        remove_all(netns, also_kube_proxy=also)
    except (NetlinkError, ProxierError, OSError) as error:
        raise UserError(f"cannot remove the rules: {error}") from error
