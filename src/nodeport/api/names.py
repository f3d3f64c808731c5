"""What names, labels and their kin must look like. Each check returns its complaints, none when all is well.

Rules and texts: RFC 1123, RFC 1035 and RFC 6335 as the Kubernetes API applies and words them.
"""

from __future__ import annotations

import re
from functools import lru_cache

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LOOSE_LABEL = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_LOOSE_SUBDOMAIN = rf"{_LOOSE_LABEL}(\.{_LOOSE_LABEL})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"
_ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_HTTP_HEADER = "[-A-Za-z0-9]+"

_is_label = re.compile(rf"{_LABEL}\Z").match
_is_subdomain = re.compile(rf"{_SUBDOMAIN}\Z").match
_is_loose_subdomain = re.compile(rf"{_LOOSE_SUBDOMAIN}\Z").match
_is_wildcard = re.compile(rf"\*\.{_SUBDOMAIN}\Z").match
_is_label_1035 = re.compile(rf"{_LABEL_1035}\Z").match
_is_qualified = re.compile(rf"{_QUALIFIED}\Z").match
_is_label_value = re.compile(rf"{_LABEL_VALUE}\Z").match
_is_env_name = re.compile(r"[ -<>-~]+\Z").match
_is_config_key = re.compile(rf"{_CONFIG_KEY}\Z").match
_is_c_identifier = re.compile(rf"{_C_IDENTIFIER}\Z").match
_is_http_header = re.compile(rf"{_HTTP_HEADER}\Z").match
_is_port_name = re.compile(r"[-a-z0-9]+\Z").match
_has_letter = re.compile(r"[a-z]").search

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character"
)
_LOOSE_SUBDOMAIN_TEXT = _SUBDOMAIN_TEXT.replace("'-' or '.'", "'_', '-' or '.'")
_WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower"
    " case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character"
)
_NAME_PART_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character"
)
_CONFIG_KEY_TEXT = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
_ENV_TEXT = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_HTTP_HEADER_TEXT = "a valid HTTP header must consist of alphanumeric characters or '-'"


def _regex(text: str, pattern: str, *examples: str) -> str:
    """The text, its examples and its pattern; the API puts ``, `` before and `` or`` after each further example."""
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


@lru_cache(maxsize=4096)
def dns_label(text: str) -> tuple[str, ...]:
    """RFC 1123 label: names of namespaces, Services, ports, containers."""
    if len(text) <= 63 and _is_label(text):
        return ()
    found = [_too_long(63)] if _bytes(text) > 63 else []
    if not _is_label(text):
        if _is_subdomain(text):
            found.append("must not contain dots")
        else:
            found.append(_regex(_LABEL_TEXT, _LABEL, "my-name", "123-abc"))
    return tuple(found)


@lru_cache(maxsize=4096)
def dns_subdomain(text: str) -> tuple[str, ...]:
    """RFC 1123 subdomain: most object names."""
    found = [_too_long(253)] if _bytes(text) > 253 else []
    if not _is_subdomain(text):
        found.append(_regex(_SUBDOMAIN_TEXT, _SUBDOMAIN.replace(r"\.", "\\."), "example.com"))
    return tuple(found)


def dns_subdomain_with_underscores(text: str) -> tuple[str, ...]:
    """As DNS search paths have it: a label may begin with an underscore and hold some."""
    found = [_too_long(253)] if _bytes(text) > 253 else []
    if not _is_loose_subdomain(text[:254]):
        found.append(_regex(_LOOSE_SUBDOMAIN_TEXT, _LOOSE_SUBDOMAIN, "example.com"))
    return tuple(found)


def wildcard_dns_subdomain(text: str) -> tuple[str, ...]:
    """``*.`` before an RFC 1123 subdomain: hosts of Ingress rules."""
    found = [_too_long(253)] if _bytes(text) > 253 else []
    if not _is_wildcard(text):
        found.append(_regex(_WILDCARD_TEXT, rf"\*\.{_SUBDOMAIN}", "*.example.com"))
    return tuple(found)


def dns_1035_label(text: str) -> tuple[str, ...]:
    found = [_too_long(63)] if _bytes(text) > 63 else []
    if not _is_label_1035(text):
        found.append(_regex(_LABEL_1035_TEXT, _LABEL_1035, "my-name", "abc-123"))
    return tuple(found)


@lru_cache(maxsize=4096)
def qualified_name(text: str) -> tuple[str, ...]:
    """Keys of labels and annotations: an optional DNS subdomain and ``/``, then a name of up to 63 bytes."""
    parts = text.split("/")
    if len(parts) > 2:
        words = _regex("a valid label key " + _NAME_PART_TEXT[len("name part "):], _QUALIFIED,
                       "MyName", "my.name", "123-abc")  # fmt: skip
        return (f"{words} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",)
    found: list[str] = []
    if len(parts) == 2:
        if not parts[0]:
            found.append("prefix part must be non-empty")
        else:
            found += [f"prefix part {complaint}" for complaint in dns_subdomain(parts[0])]
    name = parts[-1]
    if not name:
        found.append("name part must be non-empty")
    elif _bytes(name) > 63:
        found.append(f"name part {_too_long(63)}")
    if not _is_qualified(name):
        found.append(_regex(_NAME_PART_TEXT, _QUALIFIED, "MyName", "my.name", "123-abc"))
    return tuple(found)


@lru_cache(maxsize=4096)
def label_value(text: str) -> tuple[str, ...]:
    found = [_too_long(63)] if _bytes(text) > 63 else []
    if not _is_label_value(text):
        found.append(_regex(_LABEL_VALUE_TEXT, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return tuple(found)


def port_name(text: str) -> tuple[str, ...]:
    """IANA service name (RFC 6335): what container ports and target ports are called."""
    found: list[str] = []
    if _bytes(text) > 15:
        found.append(_too_long(15))
    if not _is_port_name(text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _has_letter(text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text and (text[0] == "-" or text[-1] == "-"):
        found.append("must not begin or end with a hyphen")
    return tuple(found)


def port_number(value: int) -> tuple[str, ...]:
    return () if 1 <= value <= 65535 else ("must be between 1 and 65535, inclusive",)


def _relative(text: str) -> tuple[str, ...]:
    if text == ".":
        return ("must not be '.'",)
    if text == "..":
        return ("must not be '..'",)
    return ("must not start with '..'",) if text.startswith("..") else ()


def env_name(text: str) -> tuple[str, ...]:
    """Names of environment variables (the relaxed rule: printable ASCII without ``=``)."""
    return () if _is_env_name(text) else (_ENV_TEXT,)


def config_key(text: str) -> tuple[str, ...]:
    """Keys of ConfigMaps and Secrets."""
    found = [_too_long(253)] if _bytes(text) > 253 else []
    if not _is_config_key(text):
        found.append(_regex(_CONFIG_KEY_TEXT, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    return (*found, *_relative(text))


def http_header_name(text: str) -> tuple[str, ...]:
    return () if _is_http_header(text) else (_regex(_HTTP_HEADER_TEXT, _HTTP_HEADER, "X-Header-Name"),)


def path_segment(text: str) -> tuple[str, ...]:
    """Names of kinds without a stricter rule: anything that can stand between two slashes of a URL."""
    if text in (".", ".."):
        return (f"may not be '{text}'",)
    return tuple(f"may not contain '{illegal}'" for illegal in ("/", "%") if illegal in text)
