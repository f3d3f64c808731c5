"""Quantities, addresses, names, times and ages."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api import names
from nodeport.api.duration import go_duration, human_duration, parse_duration
from nodeport.api.ip import cidr_complaints, family, ip_complaints
from nodeport.api.pods import qos_class
from nodeport.api.quantity import canonical_quantity, is_quantity, parse_quantity, quantity_error
from nodeport.api.timestamps import micro_timestamp_error, timestamp_error


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("1", 1), ("500m", Fraction(1, 2)), ("1.5Gi", 1610612736), (".5", Fraction(1, 2)), ("5.", 5),
        ("1e3", 1000), ("1E3", 1000), ("2E", 2 * 10**18), ("-3k", -3000), ("+1Ki", 1024), ("100n", Fraction(1, 10**7)),
        ("1e-3", Fraction(1, 1000)),
    ],
)  # fmt: skip
def test_quantities_have_exact_values(text: str, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    ("text", "amount", "other"),
    [
        ("1000m", "1", "1"), ("0.5", "500m", "500m"), ("1.5", "1500m", "1500m"), ("1500m", "1500m", "1500m"),
        ("1024Mi", "1Gi", "1Gi"), ("1024", "1024", "1024"), ("1000k", "1M", "1M"), ("1.5Gi", "1536Mi", "1536Mi"),
        ("0.1Gi", "107374182400m", "107374182400m"), ("100u", "1m", "100u"), ("1000u", "1m", "1m"),
        ("0.0000000001", "1m", "1n"), ("00", "0", "0"), ("007", "007", "007"), ("+1", "+1", "+1"), ("1E3", "1E3", "1E3"),
        ("1e20", "100e18", "100e18"), ("5e-10", "1e-3", "1e-9"), ("1.2e3", "1200", "1200"), ("1.5Ki", "1536", "1536"),
        ("0.5Ki", "512", "512"), ("8Ei", "9223372036854775807", "9223372036854775807"), ("10E", "10E", "10E"),
        ("1.0000000001", "1001m", "1000000001n"), ("-1500k", "-1500k", "-1500k"), ("-0.5", "-500m", "-500m"),
        ("9" * 5000, "10000000000000000000000E", "10000000000000000000000E"), ("1e-999999999", "1e-3", "1e-9"),
    ],
)  # fmt: skip
def test_the_api_keeps_quantities_in_kubernetes_canonical_form(text: str, amount: str, other: str) -> None:
    assert (canonical_quantity(text, amount=True), canonical_quantity(text)) == (amount, other)


@settings(max_examples=200)
@given(st.from_regex(r"[+-]?[0-9]{0,6}\.?[0-9]{1,6}([numkMG]|[KM]i|e[+-]?[0-9])?", fullmatch=True))
def test_a_canonical_quantity_is_worth_the_same_and_stays_as_it_is(text: str) -> None:
    made = canonical_quantity(text)
    assert abs(parse_quantity(made) - parse_quantity(text)) < Fraction(1, 10**9)
    assert canonical_quantity(made) == made


@pytest.mark.parametrize("text", ["", "a", "1x", "1.2.3", "1 ", "1mm", "--1", "1K", "1ki", "e3", "١"])
def test_what_is_no_quantity_is_told_so(text: str) -> None:
    assert quantity_error(text)
    with pytest.raises(ValueError, match="quant"):
        parse_quantity(text)


@settings(max_examples=60)
@given(st.text(max_size=8))
def test_a_text_is_a_quantity_exactly_when_it_parses(text: str) -> None:
    if is_quantity(text):
        parse_quantity(text)
    else:
        assert quantity_error(text)


@settings(max_examples=60)
@given(st.ip_addresses())
def test_canonical_addresses_are_fine(address: object) -> None:
    mapped = getattr(ip_address(str(address)), "ipv4_mapped", None)
    assert bool(ip_complaints(str(address))) is (mapped is not None)


def test_addresses_and_cidrs() -> None:
    assert ip_complaints("01.2.3.4") == ("must not have leading 0s",)
    for text in ("", "1.2.3", "1.2.3.4.5", "1.2.3.256", "fe80::1%eth0", "a"):
        assert ip_complaints(text)[0].startswith("must be a valid IP address")
    assert (family("1.1.1.1"), family("::1"), family("x")) == ("IPv4", "IPv6", "")
    for text in ("10.0.0.0/8", "fd00::/8", "1.2.3.4/32"):
        assert cidr_complaints(text) == ()
    for text in ("", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "/8", "10.0.0.0/8/8"):
        assert cidr_complaints(text)[0].startswith("must be a valid CIDR value")


def test_names() -> None:
    assert names.dns_subdomain("a.b-c") == ()
    assert "example.com" in names.dns_subdomain("a..b")[0]
    assert names.dns_1035_label("1a")[0].startswith("a DNS-1035 label must consist of")
    assert names.qualified_name("/a") == ("prefix part must be non-empty",)
    assert names.qualified_name("a/")[0] == "name part must be non-empty"
    assert names.qualified_name("a" * 64) == ("name part must be no more than 63 bytes",)
    assert names.label_value("") == ()
    assert names.path_segment("a/b%") == ("may not contain '/'", "may not contain '%'")
    assert names.path_segment("..") == ("may not be '..'",)
    assert names.config_key("..")[-1] == "must not be '..'"
    assert names.port_name("http") == ()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("2026-02-28T23:59:59Z", None), ("2024-02-29T00:00:00.123456+02:00", None),
        ("2026-02-29T00:00:00Z", 'parsing time "2026-02-29T00:00:00Z": day out of range'),
        ("2026-13-01T00:00:00Z", 'parsing time "2026-13-01T00:00:00Z": month out of range'),
        ("2026-01-01T24:00:00Z", 'parsing time "2026-01-01T24:00:00Z": hour out of range'),
        ("2026-01-01", 'parsing time "2026-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"'),
        ("2026-01-01T00:00:00Zx", 'parsing time "2026-01-01T00:00:00Zx": extra text: "x"'),
    ],
)  # fmt: skip
def test_timestamps_are_rfc_3339(text: str, wrong: str | None) -> None:
    assert timestamp_error(text) == wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("2026-02-28T23:59:59.000001Z", ""), ("2024-02-29T00:00:00.123456+02:00", ""),
        ("2026-01-01T00:00:00Z", 'cannot parse "Z" as ".000000"'), ("2026-01-01T00:00:00.5Z", 'cannot parse ".5Z" as ".000000"'),
        ("2026-01-01T00:00:00.1234567Z", 'cannot parse "7Z" as "Z07:00"'), ("bad", 'cannot parse "bad" as "2006"'),
    ],
)  # fmt: skip
def test_some_timestamps_have_six_digits_after_the_second(text: str, wrong: str) -> None:
    told = f'parsing time "{text}" as "2006-01-02T15:04:05.000000Z07:00": {wrong}' if wrong else None
    assert micro_timestamp_error(text) == told


def test_a_timestamp_with_six_digits_must_be_a_moment_too() -> None:
    text = "2026-02-29T00:00:00.000000Z"
    assert micro_timestamp_error(text) == f'parsing time "{text}": day out of range'


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-2, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (123, "2m3s"), (599, "9m59s"), (600, "10m"),
        (10799, "179m"), (10800, "3h"), (11400, "3h10m"), (28800, "8h"), (172799, "47h"), (172800, "2d"),
        (176400, "2d1h"), (8 * 86400, "8d"), (729 * 86400, "729d"), (730 * 86400, "2y"), (731 * 86400, "2y1d"),
        (3000 * 86400, "8y"),
    ],
)  # fmt: skip
def test_ages_are_shown_as_kubectl_shows_them(seconds: int, shown: str) -> None:
    assert human_duration(timedelta(seconds=seconds)) == shown


def test_quality_of_service_classes() -> None:
    def pod(*resources: object) -> dict[str, object]:
        return {"spec": {"containers": [{"resources": entry} for entry in resources]}}

    both = {"cpu": "1", "memory": "1Gi"}
    assert qos_class(pod({})) == "BestEffort"
    assert qos_class(pod({"limits": both, "requests": both})) == "Guaranteed"
    assert qos_class(pod({"limits": both, "requests": {"cpu": "500m"}})) == "Burstable"
    assert qos_class(pod({"limits": both, "requests": both}, {})) == "Burstable"
    assert qos_class(pod({"requests": {"cpu": "1"}})) == "Burstable"


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [
        ("0", 0, "0s"), ("30s", 30, "30s"), ("1h30m", 5400, "1h30m0s"), ("1.5s", 1.5, "1.5s"), ("250ms", 0.25, "250ms"),
        ("-1.5h", -5400, "-1h30m0s"), ("1m20s", 80, "1m20s"), ("10us", 0.00001, "10µs"), ("+24h", 86400, "24h0m0s"),
        (".5m", 30, "30s"), ("1h1ms", 3600.001, "1h0m0.001s"),
    ],
)  # fmt: skip
def test_go_durations_are_read_and_printed_as_go_does(text: str, seconds: float, shown: str) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert go_duration(parse_duration(text)) == shown


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1s2", "--1s", "1 s", "1.s.", "99999999999h"])
def test_what_is_no_go_duration_is_refused_in_gos_words(text: str) -> None:
    with pytest.raises(ValueError, match="time: invalid duration"):
        parse_duration(text)


def test_quantities_of_any_length_are_counted_with() -> None:
    assert parse_quantity("9" * 5000) == parse_quantity("1e40") == parse_quantity("1e999999999")
    assert parse_quantity("-" + "9" * 5000 + "Gi") < -(10**40)
    assert parse_quantity("0" * 5000 + "7.50") == Fraction(15, 2)
    assert 0 < parse_quantity("0." + "3" * 5000) < 1
