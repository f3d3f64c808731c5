"""Make ``api/data/protobuf.json`` and ``api/data/gotypes.json`` from checkouts of the Kubernetes API's definitions.

Dev-time only. Takes facts: message and field names, numbers and types; which fields Go omits when empty. Needs
``data/schema.json`` (``make_schema.py``), whose definitions say which messages are wanted.

    python tools/make_protobuf.py GIT_DIR_OF_API GIT_DIR_OF_APIMACHINERY [data folder]

protobuf.json: ``{message: {number: [JSON field, type]}}``; a type is ``string int bool bytes double`` or a message,
after ``[]`` for a list, ``{}`` for a map with string keys, ``<`` for a message whose fields belong to the parent.
gotypes.json: ``{definition: {"kept": [fields whose empty values Go keeps], "types": {field: Go type}}}``.
emptystructs.json: ``{definition: {field: value}}``, what Go prints of a struct that nobody filled; ``{}`` stands for
the empty struct of the field's own type.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

FIELD = re.compile(r"^\s*(optional|repeated|map<string, ([\w.]+)>)\s+(?:([\w.]+)\s+)?(\w+) = (\d+);", re.M)
MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.M | re.S)
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
MEMBER = re.compile(r"^\s*(?:(\w+)\s+)?([\w.\[\]*]+)\s+`([^`]*)`", re.M)
NAMED = re.compile(r"^type (\w+) (string|\[\]\w+|map\[[^\]]+\].+|int32|int64)\s*$", re.M)
SCALARS = {
    "string": "string", "int32": "int", "int64": "int", "bool": "bool", "bytes": "bytes", "double": "double",
    "uint32": "int", "uint64": "int", "float": "double",
}  # fmt: skip
SPECIAL = (
    "io.k8s.apimachinery.pkg.api.resource.Quantity", "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.runtime.RawExtension", "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
)  # fmt: skip
OWN = ("io.k8s.api.", "io.k8s.apimachinery.")
"""The packages that the two checkouts hold: what others define (custom resource definitions) is read as JSON only."""
IMPORTS = {
    "metav1": "io.k8s.apimachinery.pkg.apis.meta.v1", "v1": "io.k8s.api.core.v1", "corev1": "io.k8s.api.core.v1",
    "runtime": "io.k8s.apimachinery.pkg.runtime", "intstr": "io.k8s.apimachinery.pkg.util.intstr",
    "resource": "io.k8s.apimachinery.pkg.api.resource",
}  # fmt: skip


def show(git_dir: str, path: str) -> str:
    done = subprocess.run(
        ["git", f"--git-dir={git_dir}", "show", f"HEAD:{path}"], capture_output=True, text=True
    )
    return done.stdout


class Maker:
    def __init__(self, api: str, machinery: str, definitions: dict[str, Any]) -> None:
        self.api, self.machinery, self.definitions = api, machinery, definitions
        self.packages: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {}

    def source(self, package: str) -> str:
        """The text of the package's message definitions."""
        git_dir, folder = self.place(package)
        return show(git_dir, f"{folder}/generated.proto")

    def place(self, package: str) -> tuple[str, str]:
        if package.startswith("io.k8s.api."):
            return self.api, package.removeprefix("io.k8s.api.").replace(".", "/")
        return self.machinery, package.removeprefix("io.k8s.apimachinery.").replace(".", "/")

    def package(self, name: str) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """(messages, structs, named types) of ``io.k8s.api.core.v1``: name -> body."""
        if name not in self.packages:
            git_dir, folder = self.place(name)
            go = show(git_dir, f"{folder}/types.go")
            self.packages[name] = (
                dict(MESSAGE.findall(self.source(name))),
                dict(STRUCT.findall(go)),
                dict(NAMED.findall(go)),
            )
        return self.packages[name]

    def json_names(self, package: str, struct: str) -> dict[str, str]:
        """Field number -> JSON name, empty for embedded structs whose fields appear as the parent's own."""
        made = {}
        for _name, _go_type, tags in MEMBER.findall(self.package(package)[1].get(struct, "")):
            number, key = re.search(r'protobuf:"\w+,(\d+)', tags), re.search(r'json:"([^",]*)', tags)
            if number and key:
                made[number.group(1)] = key.group(1)
        return made

    def fields(self, definition: str) -> dict[str, list[str]]:
        package, _, name = definition.rpartition(".")
        names = self.json_names(package, name)
        made: dict[str, list[str]] = {}
        for rule, value, kind, field, number in FIELD.findall(self.package(package)[0].get(name, "")):
            target = self.type_of(value or kind, package)
            key = names.get(number, field)
            prefix = "{}" if value else "[]" if rule == "repeated" else "" if key else "<"
            made[number] = [key or field, prefix + target]
        return made

    def type_of(self, kind: str, package: str) -> str:
        if kind in SCALARS:
            return SCALARS[kind]
        if "." not in kind:
            return f"{package}.{kind}"
        return kind.removeprefix(".").replace("k8s.io.", "io.k8s.", 1)

    def messages(self) -> dict[str, dict[str, list[str]]]:
        queue, made = [name for name in self.definitions if name not in SPECIAL], {}
        while queue:
            name = queue.pop()
            if name in made or name in SPECIAL:
                continue
            fields = self.fields(name)
            package, _, message = name.rpartition(".")
            if name not in self.definitions and f"message {message} {{" not in self.source(package):
                raise SystemExit(f"no message {name}")
            made[name] = fields
            kinds = {kind.lstrip("[]{}<") for _, kind in fields.values()}
            queue += sorted(kinds.difference(SCALARS.values()))
        return {name: made[name] for name in sorted(made)}

    def go(self, definition: str) -> dict[str, Any]:
        package, _, name = definition.rpartition(".")
        kept: set[str] = set()
        types: dict[str, str] = {}
        for member, go_type, tags in MEMBER.findall(self.package(package)[1].get(name, "")):
            found = re.search(r'json:"([^"]*)"', tags)
            if found is None:
                continue
            key, *options = found.group(1).split(",")
            if "inline" in options or (not member and not key):
                inner = self.go(self.qualified(go_type, package))
                kept.update(inner.get("kept", ()))
                types.update(inner.get("types", {}))
                continue
            bare = go_type.lstrip("*")
            if "omitempty" not in options or go_type.startswith("*") or self.is_struct(bare, package):
                kept.add(key)
            types[key] = self.printed(bare, package)
        known = self.definitions.get(definition, {}).get("properties", {})
        odd = {
            key: kind
            for key, kind in types.items()
            if key not in known or kind != default_go_type(known[key])
        }
        made: dict[str, Any] = {}
        if kept:
            made["kept"] = sorted(kept)
        if odd:
            made["types"] = dict(sorted(odd.items()))
        return made

    def empty(self, definition: str) -> dict[str, Any]:
        """The fields that an empty struct prints all the same: those without omitempty, and structs."""
        package, _, name = definition.rpartition(".")
        made: dict[str, Any] = {}
        for member, go_type, tags in MEMBER.findall(self.package(package)[1].get(name, "")):
            found = re.search(r'json:"([^"]*)"', tags)
            if found is None:
                continue
            key, *options = found.group(1).split(",")
            is_struct = not go_type.startswith("*") and self.is_struct(go_type, package)
            if "inline" in options or (not member and not key):
                made.update(self.empty(self.qualified(go_type, package)))
            elif "omitzero" not in options and ("omitempty" not in options or is_struct):
                made[key] = self.empty_value(go_type, package)
        return made

    def empty_value(self, go_type: str, package: str) -> Any:
        if go_type.startswith(("*", "[", "map")):
            return None
        definition = self.qualified(go_type, package)
        if definition in SPECIAL:
            return {"Quantity": "0", "IntOrString": 0}.get(definition.rpartition(".")[2])
        if self.is_struct(go_type, package):
            return {}
        known: dict[str, Any] = {"bool": False, "int": 0, "int32": 0, "int64": 0, "float64": 0}
        named = self.package(package)[2].get(go_type, "")
        return None if named.startswith(("[", "map")) else known.get(named or go_type, "")

    def qualified(self, go_type: str, package: str) -> str:
        alias, dot, name = go_type.lstrip("*").rpartition(".")
        return f"{IMPORTS.get(alias, alias)}.{name}" if dot else f"{package}.{name}"

    def is_struct(self, go_type: str, package: str) -> bool:
        if go_type.startswith(("[", "map")):
            return False
        definition = self.qualified(go_type, package)
        return (
            definition in SPECIAL
            or definition.rpartition(".")[2] in self.package(definition.rpartition(".")[0])[1]
        )

    def printed(self, go_type: str, package: str) -> str:
        """The type as Go prints it: package name before its own types."""
        version = package.rpartition(".")[2]

        def qualify(found: re.Match[str]) -> str:
            word = found.group()
            if word in ("string", "int32", "int64", "int", "bool", "map", "float64"):
                return word
            if word == "byte":
                return "uint8"
            alias, dot, name = word.rpartition(".")
            if not dot:
                return f"{version}.{word}"
            return f"{IMPORTS.get(alias, alias).rpartition('.')[2]}.{name}"

        return re.sub(r"[\w.]+", qualify, go_type)


def default_go_type(schema: dict[str, Any]) -> str:
    """What ``api.walkers`` assumes without being told."""
    sys.path.insert(0, "src")
    from nodeport.api.walkers import _default_go_type

    return _default_go_type(schema)


def main(api: str, machinery: str, folder: str = "src/nodeport/api/data") -> None:
    definitions = json.loads((Path(folder) / "schema.json").read_text())
    definitions = {name: found for name, found in definitions.items() if name.startswith(OWN)}
    maker = Maker(api, machinery, definitions)
    messages = maker.messages()
    go_types = {name: found for name in definitions if (found := maker.go(name))}
    empty = {name: found for name in definitions if (found := maker.empty(name))}
    made = (("protobuf.json", messages), ("gotypes.json", go_types), ("emptystructs.json", empty))
    for name, content in made:
        (Path(folder) / name).write_text(json.dumps(content, separators=(",", ":")) + "\n")
    report(messages, definitions)


def report(messages: dict[str, dict[str, list[str]]], definitions: dict[str, Any]) -> None:
    print(f"{len(messages)} messages")
    for name, fields in messages.items():
        known = set(definitions.get(name, {}).get("properties", {})) - {"apiVersion", "kind"}
        flat = {field for field, kind in fields.values() if not kind.startswith("<")}
        has_inline = any(kind.startswith("<") for _, kind in fields.values())
        if (flat - known) or (known - flat and not has_inline):
            print(f"  {name}: only protobuf {sorted(flat - known)}, only schema {sorted(known - flat)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
