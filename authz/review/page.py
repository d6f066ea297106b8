"""Page: a self-contained HTML page of headings, tables and a timeline. Everything that comes from a log is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Final

from authz.audit.printable import clean

_SLASH: Final = re.compile(r"(?<=\w)/(?=\w)")
_STYLE: Final = """
:root{--ink:#1b2430;--soft:#5b6675;--line:#dfe4ea;--allow:#2f7d5b;--deny:#b3372b;--paper:#fff;--band:#f6f8fa}
*{box-sizing:border-box}
body{margin:0;background:var(--band);color:var(--ink);font:14px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:24px;margin:0 0 2px}
h2{font-size:16px;margin:0 0 10px}
nav{margin:10px 0 16px}nav a{margin-right:16px}
a{color:#1f5fa8;text-decoration:none}a:hover{text-decoration:underline}
.soft{color:var(--soft)}
section{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:16px 18px;margin:16px 0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.figure{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.figure b{display:block;font-size:22px;line-height:1.2}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600;white-space:nowrap}
td{overflow-wrap:break-word}.mono{white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
code,.mono{font:12px/1.5 ui-monospace,monospace}
.allow{color:var(--allow);font-weight:600}.deny,.no_opinion,.bad{color:var(--deny);font-weight:600}
.verdict{border-left:5px solid var(--allow)}.verdict.bad-edge{border-left-color:var(--deny)}
form input[type=text],form input[type=password]{width:min(640px,70%);padding:7px 9px;font:13px ui-monospace,monospace;
border:1px solid var(--line);border-radius:6px}
button{padding:7px 14px;border:1px solid var(--line);border-radius:6px;background:var(--paper);cursor:pointer}
svg{display:block;width:100%;height:auto}
@media print{body{background:#fff}section,.figure{break-inside:avoid}}
"""


class Html(str):
    """Text that is HTML already. Whatever is only a ``str`` is escaped."""

    __slots__ = ()


def text(value: object) -> Html:
    """Any value as HTML, with nothing in it that a browser or a reader could mistake."""
    if isinstance(value, Html):
        return value
    if value is None or value == "":
        return Html('<span class="soft">-</span>')
    if isinstance(value, datetime):
        return Html(f'<span class="mono">{value:%Y-%m-%d %H:%M:%S}</span>')
    if isinstance(value, list | tuple):
        return Html(", ".join(text("no namespace" if item is None else item) for item in value) or text(None))
    return Html(escape(clean(str(value), 2000)))


def code(value: object) -> Html:
    """A value in the type of a program's text; a long path in it may be broken behind a slash."""
    made = text(value)
    if value in (None, ""):
        return made
    return Html(f"<code>{_SLASH.sub('/<wbr>', made) if isinstance(value, str) else made}</code>")


def effect(value: object) -> Html:
    """A decision, or what begins with one, in its colour."""
    known = str(value).partition(" ")[0]
    colour = known if known in ("allow", "deny", "no_opinion") else ""
    return Html(f'<span class="{colour}">{text(value)}</span>')


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "nothing") -> Html:
    """A table; a column whose name begins with ``#`` holds numbers."""
    made = list(rows)
    if not made:
        return Html(f'<p class="soft">{text(empty)}</p>')
    numbers = [name.startswith("#") for name in columns]
    heads = "".join(
        f"<th{' class=n' if n else ''}>{text(name.lstrip('#'))}</th>" for name, n in zip(columns, numbers, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if n else ''}>{text(c)}</td>" for c, n in zip(row, numbers, strict=True))
        + "</tr>"
        for row in made
    )
    return Html(f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>')


def section(title: str, *parts: Html, extra: str = "") -> Html:
    """A part of a page under a heading."""
    return Html(f'<section class="{extra}"><h2>{text(title)}</h2>{"".join(parts)}</section>')


def figures(pairs: Sequence[tuple[str, object]]) -> Html:
    """Some numbers, large."""
    made = "".join(
        f'<div class="figure"><b>{text(value)}</b><span class="soft">{text(name)}</span></div>' for name, value in pairs
    )
    return Html(f'<div class="figures">{made}</div>')


def timeline(buckets: Sequence[tuple[datetime, int, int]]) -> Html:
    """Bars of the calls that were let in, and of those that were refused, over time."""
    if not buckets:
        return Html('<p class="soft">no decisions</p>')
    width, height, foot = 1000, 140, 18
    most = max(let_in + refused for _, let_in, refused in buckets) or 1
    step = width / len(buckets)
    bars = []
    for position, (when, let_in, refused) in enumerate(buckets):
        low, high = let_in * (height - foot) / most, refused * (height - foot) / most
        x, thick = position * step + 0.5, max(step - 1, 0.5)
        title = f"<title>{when:%Y-%m-%d %H:%M}: {let_in} let in, {refused} refused</title>"
        bars.append(
            f'<g>{title}<rect x="{x:.1f}" y="{height - foot - low:.1f}" width="{thick:.1f}" height="{low:.1f}" '
            f'fill="#2f7d5b"/><rect x="{x:.1f}" y="{height - foot - low - high:.1f}" width="{thick:.1f}" '
            f'height="{high:.1f}" fill="#b3372b"/></g>'
        )
    ends = (
        f'<text x="0" y="{height - 3}" font-size="11" fill="#5b6675">{buckets[0][0]:%Y-%m-%d %H:%M}</text>'
        f'<text x="{width}" y="{height - 3}" font-size="11" fill="#5b6675" text-anchor="end">'
        f"{buckets[-1][0]:%Y-%m-%d %H:%M}</text>"
    )
    return Html(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="decisions over time">{"".join(bars)}{ends}</svg>'
        '<p class="soft">calls <span class="allow">let in</span> and <span class="deny">refused</span>, '
        f"at most {most} in one bar</p>"
    )


def page(title: str, subtitle: str, *parts: Html, menu: Sequence[tuple[str, str]] = ()) -> str:
    """A whole page. It loads nothing and runs nothing."""
    links = "".join(f'<a href="{escape(address)}">{text(name)}</a>' for name, address in menu)
    navigation = f"<nav>{links}</nav>" if links else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "img-src 'none'; form-action 'self'; base-uri 'none'\">"
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>{text(title)}</h1><p class="soft">{text(subtitle)}</p>{navigation}{"".join(parts)}</main></body></html>'
    )
