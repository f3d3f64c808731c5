"""/healthz, /livez and /readyz: whether the server is well, all checks together or one of them.

Rule source: https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

LIVEZ = "/livez"
HEALTH_PATHS = frozenset({"/healthz", LIVEZ, "/readyz"})
Check = Callable[[], bool]


class Health:
    """``checks`` by name. /livez has them too, but passes: nothing that they find would be mended by a new start."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    def knows(self, path: str) -> bool:
        top, _, name = path.rpartition("/")
        return path in HEALTH_PATHS or (top in HEALTH_PATHS and name in self._checks)

    def answer(self, path: str, *, verbose: bool = False, exclude: Sequence[str] = ()) -> web.Response:
        """Of a ``path`` that it knows. A failed check withholds its reason, as anybody may ask."""
        if path not in HEALTH_PATHS:
            top, _, name = path.rpartition("/")
            good = self._is_good(top, name)
            return web.Response(text="ok") if good else _failed(f"internal server error: {name} failed")
        return self._together(path, verbose, frozenset(exclude))

    def _together(self, path: str, verbose: bool, excluded: frozenset[str]) -> web.Response:
        top, lines, all_good = path[1:], [], True
        for name in self._checks:
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
            elif self._is_good(path, name):
                lines.append(f"[+]{name} ok")
            else:
                lines.append(f"[-]{name} failed: reason withheld")
                all_good = False
        if unknown := sorted(excluded - self._checks.keys()):
            quoted = ", ".join(f'"{each}"' for each in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}")
        if not all_good:
            return _failed("\n".join([*lines, f"{top} check failed"]))
        return web.Response(text="\n".join([*lines, f"{top} check passed\n"]) if verbose else "ok")

    def _is_good(self, path: str, name: str) -> bool:
        return path == LIVEZ or self._checks[name]()


def _failed(text: str) -> web.Response:
    return web.Response(status=500, text=f"{text}\n")
