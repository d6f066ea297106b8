"""UnverifiedToken: a JSON web token as it was written, read strictly, and not proven at all."""

from __future__ import annotations

from dataclasses import dataclass, field

from authz.authn import base64url
from authz.authn.strict_json import read_json_object
from authz.authn.subject import is_visible
from authz.errors import AuthenticationError
from authz.reason import Reason

_ALGORITHM_LIMIT = 16
_KEY_ID_LIMIT = 255


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A signed token in compact form (RFC 7515, section 7.1).

    Attributes:
        algorithm: the header's ``alg``.
        key_id: the header's ``kid``, if it has one.
        type: the header's ``typ`` in lower case and without ``application/``, if it has one.
        payload: the payload's segment, not decoded yet.
        signed: the bytes that the signature is for.
        signature: the signature's bytes.
    """

    algorithm: str
    key_id: str | None
    type: str | None
    payload: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def claims(self) -> dict[str, object]:
        """The claims set in the payload.

        Raises:
            AuthenticationError: TOKEN_MALFORMED.
        """
        return _object(self.payload, "payload")


def read_token(text: str, max_bytes: int) -> UnverifiedToken:
    """Read the header and the signature of the token ``text``.

    Args:
        text: three base64url segments, joined with dots.
        max_bytes: longer texts are refused before anything else is done with them.

    Raises:
        AuthenticationError: TOKEN_TOO_LARGE, TOKEN_MALFORMED, TOKEN_ALGORITHM_REFUSED (``none``) or
            TOKEN_CRITICAL_REFUSED.
    """
    if len(text) > max_bytes:
        raise AuthenticationError(Reason.TOKEN_TOO_LARGE, f"the token is longer than {max_bytes} bytes")
    try:
        data = text.encode("ascii")
    except UnicodeEncodeError:
        raise _malformed("the token is not ASCII") from None
    segments = data.split(b".")
    if len(segments) == 5:
        raise _malformed("the token is encrypted (five segments); only signed tokens are accepted")
    if len(segments) != 3:
        raise _malformed(f"the token has {len(segments)} segments, not 3")
    header = _object(segments[0], "header")
    algorithm = _header_text(header, "alg", _ALGORITHM_LIMIT)
    if algorithm is None:
        raise _malformed("the header has no `alg`")
    if algorithm.lower() == "none":
        raise AuthenticationError(Reason.TOKEN_ALGORITHM_REFUSED, "the token is not signed: `alg` is none")
    if "crit" in header or "b64" in header:
        raise AuthenticationError(Reason.TOKEN_CRITICAL_REFUSED, "the header asks for an extension: `crit` or `b64`")
    if "zip" in header or "enc" in header:
        raise _malformed("the header says that the token is compressed or encrypted: `zip` or `enc`")
    kind = _header_text(header, "typ", _KEY_ID_LIMIT)
    try:
        signature = base64url.decode(segments[2])
    except ValueError as exc:
        raise _malformed(f"the signature {exc}") from None
    return UnverifiedToken(
        algorithm=algorithm,
        key_id=_header_text(header, "kid", _KEY_ID_LIMIT),
        type=None if kind is None else kind.lower().removeprefix("application/"),
        payload=segments[1],
        signed=data[: data.rindex(b".")],
        signature=signature,
    )


def _object(segment: bytes, name: str) -> dict[str, object]:
    try:
        return read_json_object(base64url.decode(segment))
    except ValueError as exc:
        raise _malformed(f"the {name} {exc}") from None


def _header_text(header: dict[str, object], name: str, limit: int) -> str | None:
    if name not in header:
        return None
    value = header[name]
    if not isinstance(value, str) or not 1 <= len(value) <= limit or not is_visible(value):
        raise _malformed(f"`{name}` in the header is not a text of 1 to {limit} visible characters")
    return value


def _malformed(detail: str) -> AuthenticationError:
    return AuthenticationError(Reason.TOKEN_MALFORMED, detail)
