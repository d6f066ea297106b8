"""Position: where a later verification of a chain may go on, and what this one knows of what comes before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from authz.errors import AuditError

_IN_JSON: Final = {"int": int, "str": str, "bool": bool, "tuple[int, ...]": list, "tuple[str, ...]": list}
_MOST: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place between two lines of a chain.

    Attributes:
        segments: numbers of the first lines of the files up to here; this one is the last of them.
        offset: bytes of the file up to here; of a Parquet file, of the lines in it.
        line: lines of the file up to here.
        first: number of the first line of the chain.
        seq, hash: of the line before.
        unsealed: how many lines wait for a checkpoint.
        sealed, anchored: number of the last line that a checkpoint, or an anchor, vouches for.
        signed, unsigned: how many checkpoints are, and are not.
        retired: number of the last line that the log says was retired; 0: none.
        closed: whether the chain is closed here.
        keys: ids of the keys that the checkpoints were held against.
    """

    segments: tuple[int, ...]
    offset: int
    line: int
    first: int
    seq: int
    hash: str
    unsealed: int
    sealed: int
    anchored: int
    signed: int
    unsigned: int
    retired: int
    closed: bool
    keys: tuple[str, ...]

    def state(self) -> dict[str, Any]:
        """The position as JSON has it."""
        return asdict(self) | {"segments": list(self.segments), "keys": list(self.keys)}

    @classmethod
    def of(cls, writer: str, state: object) -> Position | None:
        """The position that a ``state`` is of; None: the chain of ``writer`` is to be verified from its beginning.

        Raises:
            AuditError: it is none.
        """
        if state == {}:
            return None
        known = {each.name: _IN_JSON[str(each.type)] for each in fields(cls)}
        if isinstance(state, dict) and {name: type(value) for name, value in state.items()} == known:
            numbers = [*state["segments"], *(value for value in state.values() if type(value) is int)]
            if state["segments"] and all(type(number) is int and 0 <= number < _MOST for number in numbers):
                return cls(**{**state, "segments": tuple(state["segments"]), "keys": tuple(state["keys"])})
        raise AuditError(f"what it says of the chain {writer} was not written by a verification")
