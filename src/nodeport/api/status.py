"""What the API says when it says no: field errors, the ``ApiError`` tree and their ``Status`` bodies.

::

    ApiError
    ├── BadRequest          400
    ├── Unauthorized        401
    ├── Forbidden           403
    ├── NotFound            404
    ├── MethodNotAllowed    405
    ├── NotAcceptable       406
    ├── AlreadyExists       409
    ├── Conflict            409
    ├── Expired             410
    ├── RequestEntityTooLarge 413
    ├── UnsupportedMediaType  415
    ├── Invalid             422
    ├── TooManyRequests     429
    ├── InternalError       500
    ├── PlainError          500, without a reason
    ├── ServiceUnavailable  503
    └── Timeout             504

The apiserver raises them and converts once, at its door; the client raises the same tree from a Status it was sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from nodeport.api.meta import JsonObject
from nodeport.api.resources import GroupVersionKind, Resource


class FieldErrorType(Enum):
    """Value: (the Status cause's reason, the words that messages begin with)."""

    INVALID = ("FieldValueInvalid", "Invalid value")
    REQUIRED = ("FieldValueRequired", "Required value")
    DUPLICATE = ("FieldValueDuplicate", "Duplicate value")
    NOT_FOUND = ("FieldValueNotFound", "Not found")
    NOT_SUPPORTED = ("FieldValueNotSupported", "Unsupported value")
    FORBIDDEN = ("FieldValueForbidden", "Forbidden")
    TOO_LONG = ("FieldValueTooLong", "Too long")
    TOO_MANY = ("FieldValueTooMany", "Too many")
    TYPE_INVALID = ("FieldValueTypeInvalid", "Invalid value")
    INTERNAL = ("InternalError", "Internal error")


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one field; its text is what kubectl prints, to the letter.

    ``field`` is a dotted path with indexes (``spec.ports[0].nodePort``); ``value`` anything JSON, shown for the types
    that show one.
    """

    type: FieldErrorType
    field: str
    value: Any = None
    detail: str = ""

    def body(self) -> str:
        """The message without the field: a Status cause's ``message``."""
        words = self.type.value[1]
        match self.type:
            case (
                FieldErrorType.REQUIRED
                | FieldErrorType.FORBIDDEN
                | FieldErrorType.TOO_LONG
                | FieldErrorType.INTERNAL
            ):
                head = words
            case FieldErrorType.NOT_SUPPORTED:  # values of types that have names, which JSON shows
                head = f"{words}: {_go_json(self.value)}"
            case _:
                head = f"{words}: {_shown(self.value)}"
        return f"{head}: {self.detail}" if self.detail else head

    def __str__(self) -> str:
        return f"{self.field}: {self.body()}"


def _shown(value: Any) -> str:
    return go_quoted(value) if type(value) is str else _go_json(value)


def go_quoted(text: str) -> str:
    """``text`` as Go's ``%q`` writes it: what cannot be printed is escaped, ``<`` and ``&`` are not."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return f'"{"".join(map(_go_character, text))}"'


_GO_ESCAPES = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", '"': r"\"", "\\": r"\\",
}  # fmt: skip


def _go_character(character: str) -> str:
    if found := _GO_ESCAPES.get(character):
        return found
    if character.isprintable():
        return character
    number = ord(character)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


_GO_JSON = str.maketrans({
    "<": r"\u003c", ">": r"\u003e", "&": r"\u0026", "\u2028": r"\u2028", "\u2029": r"\u2029",
})  # fmt: skip


def _go_json(value: Any) -> str:
    """JSON as Go writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_GO_JSON)


def invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(FieldErrorType.INVALID, field, value, detail)


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(FieldErrorType.REQUIRED, field, detail=detail)


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError(FieldErrorType.FORBIDDEN, field, detail=detail)


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError(FieldErrorType.DUPLICATE, field, value)


def too_long(field: str, limit: int) -> FieldError:
    """``limit`` in bytes."""
    return FieldError(FieldErrorType.TOO_LONG, field, detail=f"may not be more than {limit} bytes")


def not_supported(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    """``supported`` is shown in the order given."""
    quoted = ", ".join(json.dumps(word) for word in supported)
    return FieldError(FieldErrorType.NOT_SUPPORTED, field, value, f"supported values: {quoted}")


@dataclass(frozen=True, slots=True)
class Cause:
    reason: str
    message: str
    field: str = ""

    def to_json(self) -> JsonObject:
        found = {"reason": self.reason, "message": self.message, "field": self.field}
        return {key: value for key, value in found.items() if value}


class ApiError(Exception):
    """A request that the API refuses; carries all that its ``Status`` body says.

    ``continue_token``: with what a client may go on although its list expired.
    ``details`` None: the body has none unless there are causes; empty: it has an empty one, which clients that look
    into a 404 count on.
    """

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        details: JsonObject | None = None,
        causes: Sequence[Cause] = (),
        retry_after_seconds: int = 0,
        continue_token: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})
        self._has_details = details is not None
        self.causes = tuple(causes)
        self.retry_after_seconds = retry_after_seconds
        self.continue_token = continue_token

    def to_status(self) -> JsonObject:
        details: JsonObject = dict(self.details)
        if self.causes:
            details["causes"] = [cause.to_json() for cause in self.causes]
        if self.retry_after_seconds:
            details["retryAfterSeconds"] = self.retry_after_seconds
        metadata = {"continue": self.continue_token} if self.continue_token else {}
        status: JsonObject = {
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message,
        }  # fmt: skip
        if self.reason:
            status["reason"] = self.reason
        if details or self._has_details:
            status["details"] = details
        status["code"] = self.code
        return status


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class Expired(ApiError):
    code, reason = 410, "Expired"


class RequestEntityTooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    code, reason = 504, "Timeout"


_BY_REASON: dict[str, type[ApiError]] = {cls.reason: cls for cls in ApiError.__subclasses__()}
_BY_CODE: dict[int, type[ApiError]] = {cls.code: cls for cls in reversed(ApiError.__subclasses__())}


class PlainError(ApiError):
    """500 without a reason: what Kubernetes answers where it has no word for the failure."""

    code, reason = 500, ""


def from_status(status: JsonObject) -> ApiError:
    """The error that a server's ``Status`` body stands for: by reason, else by code."""
    code = int(status.get("code") or 500)
    cls = _BY_REASON.get(status.get("reason") or "") or _BY_CODE.get(code, InternalError)
    details = dict(status.get("details") or {})
    causes = [
        Cause(cause.get("reason", ""), cause.get("message", ""), cause.get("field", ""))
        for cause in details.pop("causes", None) or []
    ]
    retry_after = int(details.pop("retryAfterSeconds", 0) or 0)
    message = status.get("message") or f"the server answered {code}"
    return cls(message, details=details, causes=causes, retry_after_seconds=retry_after)


def _about(resource: Resource, name: str) -> JsonObject:
    found = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in found.items() if value}


def not_found(resource: Resource, name: str) -> NotFound:
    return NotFound(f'{resource.qualified_name} "{name}" not found', details=_about(resource, name))


def already_exists(resource: Resource, name: str, *, ending: bool = False) -> AlreadyExists:
    """``ending``: the object that has the name is about to go."""
    why = "object is being deleted: " if ending else ""
    return AlreadyExists(
        f'{why}{resource.qualified_name} "{name}" already exists', details=_about(resource, name)
    )


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: Resource, name: str, why: str = MODIFIED) -> Conflict:
    message = f'Operation cannot be fulfilled on {resource.qualified_name} "{name}": {why}'
    return Conflict(message, details=_about(resource, name))


def invalid_object(resource: Resource | GroupVersionKind, name: str, errors: Sequence[FieldError]) -> Invalid:
    """422 with one cause an error; several are printed as a list, equal ones once."""
    unique = list(dict.fromkeys(str(error) for error in errors))
    shown = unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
    details = {"name": name, "group": resource.group, "kind": resource.kind}
    return Invalid(
        f'{resource.kind}{"." + resource.group if resource.group else ""} "{name}" is invalid: {shown}',
        details={key: value for key, value in details.items() if value},
        causes=[Cause(error.type.value[0], error.body(), error.field) for error in errors],
    )


def internal_error(why: object) -> InternalError:
    return InternalError(f"Internal error occurred: {why}", causes=[Cause("", str(why))])
