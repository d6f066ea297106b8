"""The header traceparent, read strictly: what is not one leaves no trace in the record."""

from __future__ import annotations

import pytest

from authz.trace_context import read_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-ff",
        f"01-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-comes",
    ],
)
def test_what_is_one(value: str) -> None:
    assert read_traceparent([value]) == (TRACE, SPAN)


REFUSED: list[list[str | bytes]] = [
    [],
    [""],
    [GOOD, GOOD],
    [GOOD.encode()],
    [f"ff-{TRACE}-{SPAN}-01"],
    [f"0-{TRACE}-{SPAN}-01"],
    [f"00-{TRACE}-{SPAN}-01-more"],
    [f"00-{TRACE}-{SPAN}"],
    [f"00-{TRACE}-{SPAN}-1"],
    [f"00-{TRACE}-{SPAN}-01\n"],
    [f" {GOOD}"],
    [f"00-{TRACE.upper()}-{SPAN}-01"],
    [f"00-{TRACE[:-1]}g-{SPAN}-01"],
    [f"00-{TRACE[:-1]}-{SPAN}-01"],
    [f"00-{TRACE}-{SPAN}0-01"],
    [f"00-{'0' * 32}-{SPAN}-01"],
    [f"00-{TRACE}-{'0' * 16}-01"],
    [f"01-{TRACE}-{SPAN}-01-{'x' * 300}"],
    [f"01-{TRACE}-{SPAN}-01-\x1b[2J"],
    [f"00-{TRACE[:-1]}\uff11-{SPAN}-01"],
]


@pytest.mark.parametrize("values", REFUSED, ids=repr)
def test_what_is_none(values: list[str | bytes]) -> None:
    assert read_traceparent(values) == ("", "")
