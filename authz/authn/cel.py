"""CelCondition: a condition in the Common Expression Language, for what the other conditions cannot say.

Needs the extra ``grpc-authz[cel]``. An expression must be of type bool, and holds only if it comes out as true: in this
language a failure is a value, too, and one that Python takes for true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from cel_expr_python import cel

_LENGTH_LIMIT: Final = 2000
# between a name and its bracket may stand blanks and comments
_MATCHES: Final = re.compile(r"\bmatches(?:\s|//[^\n]*(?:\n|$))*\(")


class CelCondition:
    """A condition on ``claims``: a token's claims set, or the fields of a certificate.

    Args:
        text: the expression, e.g. ``claims.level >= 3 && claims.org in ["a", "b"]``.

    Raises:
        ValueError: it is no expression, or not certainly a bool, or calls ``matches``.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LENGTH_LIMIT:
            raise ValueError(f"is longer than {_LENGTH_LIMIT} characters")
        if _MATCHES.search(text):
            raise ValueError("calls `matches`, which looks for a match anywhere; use a condition with `match`")
        try:
            self._expression: Any = cel.NewEnv(variables={"claims": cel.Type.DYN}).compile(text)
        except Exception as exc:
            raise ValueError(f"is not CEL: {' '.join(str(exc).split())[:200]}") from None
        if self._expression.return_type() != cel.Type.BOOL:
            raise ValueError("is not certainly true or false; compare it with something, e.g. `claims.admin == true`")
        self.text = text

    def holds(self, attributes: Mapping[str, object]) -> bool:
        """See :class:`authz.authn.conditions.Condition`. An expression that fails does not hold."""
        try:
            found = self._expression.eval(data={"claims": dict(attributes)}).value()
        except Exception:
            # an absent claim, a number beyond 64 bits, an iteration without end: whatever it is, it is not true
            return False
        return found is True
