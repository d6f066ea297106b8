"""Section: a YAML mapping that is read strictly, and knows the place of each of its values.

Used for the configuration and for the files of a policy bundle. Refused, with the place and what to write instead:
duplicate and unknown keys, values of another type (also the words that YAML takes for a boolean or a date), anchors,
aliases, merge keys, tags, more than one document.
"""

from __future__ import annotations

import difflib
import os.path
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar, overload

import yaml

from authz.errors import FileError, Place, Problem

_BYTES_LIMIT: Final = 16 * 1024 * 1024
_DEPTH_LIMIT: Final = 100
_NEAR: Final = 0.65
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TYPE = {
    "tag:yaml.org,2002:bool": "a boolean",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
}
_REMEDIES: Final = (
    (
        "mapping values are not allowed",
        "put a text with a colon in quotes, and write a blank behind the colon of a key",
    ),
    ("expected ',' or", "close the bracket, or write a comma"),
    ("expected key", "write `key: value`, all keys of one mapping below each other, and none beside a line with `-`"),
    ("expected ':'", "write `key: value`"),
    ("'-' indicator", "begin each line of the list with `- `, or write keys only"),
    ("end of stream", "close the quote"),
    ("another document", "write one document, without `---`"),
)
T = TypeVar("T")


class _Required:
    """The default of a value that has none."""


_REQUIRED: Final = _Required()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy: the nearest of ``known``, or all of them if none is near, or nothing if nothing is known."""
    names = sorted(set(known))
    # of methods, what stands before the last slash is mostly the same, and says nothing
    last = word.rpartition("/")[2]
    for near in difflib.get_close_matches(word, names, n=3, cutoff=0.6):
        other = near.rpartition("/")[2]
        alike = difflib.SequenceMatcher(None, other, last).ratio() >= _NEAR
        if alike or other.startswith(last) or last.startswith(other):
            return f"did you mean `{near}`?"
    return f"known here: {', '.join(names)}" if names else ""


def load(path: Path, error: type[FileError]) -> Section:
    """Read the YAML mapping in the file ``path``.

    Args:
        path: the file, UTF-8, at most 16 MiB.
        error: what to raise, also from every later reading of the section.

    Raises:
        FileError: of the type ``error``, for whatever cannot be used.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_BYTES_LIMIT + 1)
    except OSError as exc:
        raise error.at(path, f"cannot be read: {exc.strerror}") from None
    if len(data) > _BYTES_LIMIT:
        raise error.at(path, f"is larger than {_BYTES_LIMIT} bytes")
    return parse(data, path, error)


def parse(data: bytes, path: Path, error: type[FileError]) -> Section:
    """Read the YAML mapping in ``data``; ``path`` is for messages and for relative file names. See :func:`load`."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise error.at(Place(str(path), line), "is not UTF-8", "save the file as UTF-8") from None
    try:
        _look_through(text, path, error)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise error.at(_place(path, mark), f"is not YAML: {exc.problem or exc.context}", _remedy(exc, text)) from None
    except yaml.reader.ReaderError as exc:
        before = text.encode()[: exc.position].decode("utf-8", "ignore")
        place = Place(str(path), before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise error.at(place, "is not YAML: it has a character that nobody can see", "remove it") from None
    except yaml.YAMLError as exc:
        raise error.at(path, f"is not YAML: {str(exc).splitlines()[0]}") from None
    if node is None:
        raise error.at(path, "is empty")
    return Section(node, path, error, "")


def _look_through(text: str, path: Path, error: type[FileError]) -> None:
    """Refuse what must not even be composed: references, and nesting that the composer's stack would not outlive."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise error.at(_place(path, event.start_mark), "uses an anchor or alias", "write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH_LIMIT:
            message = f"is nested deeper than {_DEPTH_LIMIT} levels"
            raise error.at(_place(path, event.start_mark), message, "close a bracket, or indent less")


def _place(path: Path, mark: Any) -> Place:
    return Place(str(path), mark.line + 1, mark.column + 1) if mark else Place(str(path))


def _remedy(error: yaml.MarkedYAMLError, text: str) -> str:
    """What to write instead, in words that PyYAML has none of."""
    mark, problem = error.problem_mark, str(error.problem)
    line = text.split("\n")[mark.line] if mark and mark.line <= text.count("\n") else ""
    if "\t" in line[: mark.column + 1 if mark else 0]:
        return "indent with blanks, not with a tab"
    if "cannot start any token" in problem and mark:
        return f"put the text that begins with `{line[mark.column : mark.column + 1]}` in quotes"
    return next((remedy for words, remedy in _REMEDIES if words in problem), "")


class Section:
    """A mapping of a YAML file. Each getter takes the value of a key once; :meth:`close` refuses the keys left over.

    Attributes:
        path: the file.
        place: where the mapping begins.
        name: dotted name from the top of the file, e.g. ``authn.issuers[0]``; empty at the top.
    """

    def __init__(self, node: yaml.Node, path: Path, error: type[FileError], name: str) -> None:
        self.path = path
        self.name = name
        self._error = error
        self._mark = node.start_mark
        self.place = self._at(node)
        if not isinstance(node, yaml.MappingNode) or node.tag != "tag:yaml.org,2002:map":
            remedy = "write `key: value` lines, without `- `" if isinstance(node, yaml.SequenceNode) else ""
            raise error.at(self.place, f"{self._title()} must be a mapping, not {_kind(node)}", remedy)
        self._keys: dict[str, yaml.Node] = {}
        self._values: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                hint = "put it in quotes" if isinstance(key_node, yaml.ScalarNode) else ""
                raise error.at(self._at(key_node), f"a key must be text, not {_kind(key_node)}", hint)
            key = key_node.value
            if key in self._keys:
                first = self._at(self._keys[key]).line
                raise error.at(self._at(key_node), f"`{key}` is given twice, first on line {first}", "keep one of them")
            self._keys[key] = key_node
            self._values[key] = value_node
        self._left = set(self._keys)
        self._asked: set[str] = set()

    def _title(self) -> str:
        return f"`{self.name}`" if self.name else "the file"

    def _at(self, node: yaml.Node) -> Place:
        return Place(str(self.path), node.start_mark.line + 1, node.start_mark.column + 1)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def is_section(self, key: str) -> bool:
        """Whether the value of ``key`` is a mapping, for a value that may be written short or long."""
        return isinstance(self._values.get(key), yaml.MappingNode)

    def place_of(self, key: str) -> Place:
        """Where the value of ``key`` is written, or the section itself if the key is absent."""
        return self._at(self._values[key]) if key in self._values else self.place

    def refuse(self, key: str, message: str, remedy: str = "") -> FileError:
        """The error to raise for the value of ``key``."""
        return self._error.at(self.place_of(key), message, remedy)

    def close(self, known: Iterable[str] = ()) -> None:
        """Refuse every key that no getter took. ``known`` adds names for the suggestion."""
        taken = (set(self._keys) - self._left) | set(known) | self._asked
        problems = [
            Problem(self._at(self._keys[key]), f"unknown key `{self._full(key)}`", did_you_mean(key, taken))
            for key in self._keys
            if key in self._left
        ]
        if problems:
            raise self._error(problems)

    def _full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _take(self, key: str, default: object) -> yaml.Node | None:
        self._asked.add(key)
        if key not in self._values:
            if default is _REQUIRED:
                raise self._missing(key)
            return None
        self._left.discard(key)
        return self._values[key]

    def _missing(self, key: str) -> FileError:
        place, remedy = self.place, f"add `{key}:` to {self._title()}"
        for near in difflib.get_close_matches(key, sorted(self._left), n=1, cutoff=0.75):
            place, remedy = self._at(self._keys[near]), f"write `{key}` if that is what `{near}` is to say"
        return self._error.at(place, f"`{self._full(key)}` is missing", remedy)

    def _scalar(self, key: str, node: yaml.Node, tag: str, wanted: str) -> str:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"tag:yaml.org,2002:{tag}":
            return str(node.value)
        quote = tag == "str" and isinstance(node, yaml.ScalarNode) and node.value != ""
        remedy = f'write "{node.value}" in quotes' if quote else ""
        raise self._error.at(self._at(node), f"`{self._full(key)}` must be {wanted}, not {_kind(node)}", remedy)

    @overload
    def text(self, key: str) -> str: ...
    @overload
    def text(self, key: str, default: T) -> str | T: ...
    def text(self, key: str, default: object = _REQUIRED) -> object:
        """The text of ``key``, never empty."""
        node = self._take(key, default)
        return default if node is None else self._text(key, node)

    def _text(self, key: str, node: yaml.Node) -> str:
        value = self._scalar(key, node, "str", "text")
        if not value:
            raise self._error.at(self._at(node), f"`{self._full(key)}` is empty")
        return value

    @overload
    def texts(self, key: str) -> tuple[str, ...]: ...
    @overload
    def texts(self, key: str, default: T) -> tuple[str, ...] | T: ...
    def texts(self, key: str, default: object = _REQUIRED) -> object:
        """The list of texts of ``key``: not empty, no text twice."""
        node = self._take(key, default)
        if node is None:
            return default
        values: list[str] = []
        for item in self._items(key, node):
            value = self._text(key, item)
            if value in values:
                raise self._error.at(self._at(item), f"`{value}` is listed twice in `{self._full(key)}`")
            values.append(value)
        return tuple(values)

    @overload
    def choice(self, key: str, options: Iterable[str]) -> str: ...
    @overload
    def choice(self, key: str, options: Iterable[str], default: T) -> str | T: ...
    def choice(self, key: str, options: Iterable[str], default: object = _REQUIRED) -> object:
        """One of ``options``."""
        node = self._take(key, default)
        if node is None:
            return default
        value = self._text(key, node)
        names = list(options)
        if value not in names:
            raise self._error.at(
                self._at(node),
                f"`{self._full(key)}` cannot be `{value}`",
                f"write one of: {', '.join(names)}",
            )
        return value

    @overload
    def integer(self, key: str, *, least: int, most: int) -> int: ...
    @overload
    def integer(self, key: str, default: T, *, least: int, most: int) -> int | T: ...
    def integer(self, key: str, default: object = _REQUIRED, *, least: int, most: int) -> object:
        """The whole number of ``key``, in decimal digits, from ``least`` to ``most``."""
        node = self._take(key, default)
        if node is None:
            return default
        value = self._scalar(key, node, "int", "a whole number")
        if not re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", value) or not least <= int(value) <= most:
            raise self._error.at(
                self._at(node), f"`{self._full(key)}` cannot be {value}", f"write a whole number from {least} to {most}"
            )
        return int(value)

    @overload
    def boolean(self, key: str) -> bool: ...
    @overload
    def boolean(self, key: str, default: T) -> bool | T: ...
    def boolean(self, key: str, default: object = _REQUIRED) -> object:
        """``true`` or ``false``, and none of YAML's other words for them."""
        node = self._take(key, default)
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode) or node.value not in ("true", "false") or node.style:
            raise self._error.at(
                self._at(node), f"`{self._full(key)}` must be a boolean", "write `true` or `false`, without quotes"
            )
        return node.value == "true"

    @overload
    def duration(self, key: str, *, least: float = 0.0, most: float) -> float: ...
    @overload
    def duration(self, key: str, default: T, *, least: float = 0.0, most: float) -> float | T: ...
    def duration(self, key: str, default: object = _REQUIRED, *, least: float = 0.0, most: float) -> object:
        """The duration of ``key`` in seconds: a number with its unit, ``ms``, ``s``, ``m``, ``h`` or ``d``."""
        node = self._take(key, default)
        if node is None:
            return default
        value = node.value if isinstance(node, yaml.ScalarNode) else ""
        match = _DURATION.fullmatch(value)
        if match is None:
            raise self._error.at(
                self._at(node),
                f"`{self._full(key)}` must be a duration, not {f'`{value}`' if value else _kind(node)}",
                "write a number and its unit: 500ms, 30s, 5m, 24h or 7d",
            )
        seconds = float(match[1]) * _SECONDS[match[2]]
        if not least <= seconds <= most:
            raise self._error.at(
                self._at(node),
                f"`{self._full(key)}` cannot be {value}",
                f"write a duration from {least:g}s to {most:g}s",
            )
        return seconds

    @overload
    def file(self, key: str) -> Path: ...
    @overload
    def file(self, key: str, default: T) -> Path | T: ...
    def file(self, key: str, default: object = _REQUIRED) -> object:
        """The file name in ``key``, taken relative to the folder of this file."""
        node = self._take(key, default)
        return default if node is None else self._file(key, node)

    def _file(self, key: str, node: yaml.Node) -> Path:
        value = self._text(key, node)
        if "\0" in value:
            raise self._error.at(self._at(node), f"`{self._full(key)}` has a NUL character")
        return Path(os.path.normpath(self.path.parent / value))

    @overload
    def files(self, key: str) -> tuple[Path, ...]: ...
    @overload
    def files(self, key: str, default: T) -> tuple[Path, ...] | T: ...
    def files(self, key: str, default: object = _REQUIRED) -> object:
        """The list of file names in ``key``, each taken relative to the folder of this file."""
        node = self._take(key, default)
        return default if node is None else tuple(self._file(key, item) for item in self._items(key, node))

    @overload
    def section(self, key: str) -> Section: ...
    @overload
    def section(self, key: str, default: T) -> Section | T: ...
    def section(self, key: str, default: object = _REQUIRED) -> object:
        """The mapping of ``key``."""
        node = self._take(key, default)
        return default if node is None else Section(node, self.path, self._error, self._full(key))

    def options(self, key: str) -> Section:
        """The mapping of ``key``, or a mapping without keys where the key is absent: both are read, then closed."""
        node = self._take(key, None)
        if node is None:
            node = yaml.MappingNode("tag:yaml.org,2002:map", [], self._mark, self._mark)
        return Section(node, self.path, self._error, self._full(key))

    @overload
    def sections(self, key: str) -> tuple[Section, ...]: ...
    @overload
    def sections(self, key: str, default: T) -> tuple[Section, ...] | T: ...
    def sections(self, key: str, default: object = _REQUIRED) -> object:
        """The list of mappings of ``key``, not empty."""
        node = self._take(key, default)
        if node is None:
            return default
        return tuple(
            Section(item, self.path, self._error, f"{self._full(key)}[{i}]")
            for i, item in enumerate(self._items(key, node))
        )

    def _items(self, key: str, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or node.tag != "tag:yaml.org,2002:seq":
            remedy = f"write `{key}: [{node.value}]`" if isinstance(node, yaml.ScalarNode) and node.value else ""
            raise self._error.at(self._at(node), f"`{self._full(key)}` must be a list, not {_kind(node)}", remedy)
        if not node.value:
            remedy = "name at least one, or leave it out"
            raise self._error.at(self._at(node), f"`{self._full(key)}` is an empty list", remedy)
        return list(node.value)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return _TYPE.get(node.tag, "text" if node.tag == "tag:yaml.org,2002:str" else f"the tag {node.tag}")
