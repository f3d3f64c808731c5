"""Content negotiation: what a client accepts, and what form its body has.

JSON is always possible, YAML on request; protobuf is read but never written. Forms beyond the plain object
(``as=Table``, ``as=PartialObjectMetadata``) are parameters of the JSON type; an entry of Accept that asks for a form
not served falls through to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from nodeport.api.status import NotAcceptable, UnsupportedMediaType

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
PRODUCED = (JSON, YAML)
CONSUMED = (JSON, YAML, PROTOBUF)


class Form(Enum):
    OBJECT = "object"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"


@dataclass(frozen=True, slots=True)
class Representation:
    form: Form = Form.OBJECT
    yaml: bool = False
    pretty: bool = False

    @property
    def content_type(self) -> str:
        return YAML if self.yaml else JSON


@dataclass(frozen=True, slots=True)
class MediaType:
    """One entry of an Accept header; ``quality`` 0 to 1."""

    type: str
    parameters: dict[str, str]
    quality: float


def parse_accept(header: str) -> tuple[MediaType, ...]:
    """Entries in order of preference: by quality, then as written."""
    found = []
    for clause in header.split(","):
        media_type, *rest = (part.strip() for part in clause.split(";"))
        if not media_type:
            continue
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 1.0
        found.append(MediaType(media_type.lower(), parameters, quality))
    return tuple(sorted(found, key=lambda entry: -entry.quality))


@lru_cache(maxsize=256)
def representation(accept: str, *, transformable: bool = True) -> Representation:
    """What to answer with; 406 when nothing acceptable can be produced.

    ``transformable``: the answer may be given as a Table or as metadata only.
    """
    if not accept:
        return Representation()
    for entry in parse_accept(accept):
        if entry.quality <= 0:
            continue
        if entry.type in (JSON, "*/*", "application/*"):
            yaml = False
        elif entry.type in (YAML, "application/x-yaml", "text/yaml"):
            yaml = True
        else:
            continue
        wanted = entry.parameters.get("as", "")
        if not wanted:
            return Representation(yaml=yaml)
        if transformable and (form := _form(wanted, entry.parameters)) is not None:
            return Representation(form, yaml)
    raise NotAcceptable(f"only the following media types are accepted: {', '.join(PRODUCED)}")


def _form(wanted: str, parameters: dict[str, str]) -> Form | None:
    if parameters.get("g") != "meta.k8s.io" or parameters.get("v") != "v1":
        return None
    match wanted:
        case "Table":
            return Form.TABLE
        case "PartialObjectMetadata" | "PartialObjectMetadataList":
            return Form.METADATA
    return None


def wants_discovery(accept: str) -> str:
    """The aggregated discovery version asked for first (``v2``, ``v2beta1``), empty for the legacy form."""
    for entry in parse_accept(accept):
        if entry.type not in (JSON, "*/*"):
            continue
        parameters = entry.parameters
        if parameters.get("as") == "APIGroupDiscoveryList" and parameters.get("g") == "apidiscovery.k8s.io":
            if parameters.get("v") in ("v2", "v2beta1"):
                return parameters["v"]
        elif "as" not in parameters:
            return ""
    return ""


def body_type(content_type: str) -> str:
    """The form of a request body: JSON when nothing is said; 415 for what cannot be read."""
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type:
        return JSON
    if media_type in ("application/x-yaml", "text/yaml"):
        return YAML
    if media_type in CONSUMED:
        return media_type
    accepted = ", ".join(CONSUMED)
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    )


def wants_pretty(asked: str, user_agent: str) -> bool:
    """Whether JSON is for human eyes: the parameter ``pretty`` says so, or browsers and their like do by asking."""
    if asked:
        return asked in ("1", "t", "T", "true", "True", "TRUE")
    return user_agent.startswith(("curl", "Wget", "Mozilla/5.0"))
