"""Tokens and certificates: what proving one costs here, beside PyJWT's bare decoding of the same tokens in one run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import jwt
from cryptography import x509

from authz.authn.authority import Authority, FixedAnchors
from authz.authn.background import Background
from authz.authn.certificate import CertificateAuthenticator
from authz.authn.chain import Authentication
from authz.authn.fetched_keys import FetchedKeys, Refresh
from authz.authn.https import Https
from authz.authn.issuer import Issuer
from authz.authn.jwt import TokenAuthenticator
from authz.authn.key_files import read_key_set
from authz.authn.keys import FixedKeys, KeySource
from authz.authn.pointer import Pointer
from authz.claims.mapper import MapperByIssuer, RuleMapper
from authz.claims.permissions import PermissionsRule
from authz.credentials import BearerToken, ClientCertificate
from authz.errors import AuthenticationError
from authz.testing import CertificateAuthority, SigningKey, TokenMinter
from benchmarks import table

METHOD = "/orders.v1.Orders/Get"
EXPLANATION = """
*fresh*: a token that was never seen, verified strictly and made into a principal; *known*: the same token again. PyJWT
decodes with a key that is at hand, and is told to require `exp`, `iss`, `aud` and `sub`. The tokens have ten
permissions. Each row alternates between the two in short rounds; the numbers are medians of the rounds' medians, in
microseconds.
"""

STALL = """
A turn of an event loop in which one token with an unknown `kid` is refused, while the issuer's key server answers, and
while it takes each request and never answers.
"""


def _median(step: Callable[[int], object], count: int) -> float:
    """Microseconds of one step: the median of ``count``."""
    times = []
    for i in range(count):
        began = time.perf_counter_ns()
        step(i)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1000


def _issuer(minter: TokenMinter, algorithm: str, keys: KeySource) -> Issuer:
    return Issuer(
        name="corp",
        issuer=minter.issuer,
        audiences=frozenset({"grpc-api"}),
        algorithms=frozenset({algorithm}),
        keys=keys,
        prefix="corp:",
    )


def _measure(algorithm: str, rounds: int, count: int) -> list[str]:
    key = SigningKey(algorithm, "key")
    minter = TokenMinter("https://idp.corp.example", "grpc-api", key=key)
    tokens = [minter.mint(permissions=[f"namespace-{n}:read" for n in range(10)], jti=str(i)) for i in range(count)]
    public = jwt.PyJWK(key.jwk())
    issuer = _issuer(minter, algorithm, FixedKeys(read_key_set(json.dumps(minter.jwks()).encode(), "benchmark")))

    def by_pyjwt(i: int) -> object:
        return jwt.decode(
            tokens[i],
            public,
            algorithms=[algorithm],
            audience="grpc-api",
            issuer=minter.issuer,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )

    theirs, fresh, known, mapped = [], [], [], []
    for _ in range(rounds):
        authentication = Authentication(TokenAuthenticator([issuer]))
        mapper = MapperByIssuer({"corp": RuleMapper([PermissionsRule(Pointer("permissions"))])})
        now = time.time()

        def ours(i: int, authentication: Authentication = authentication, now: float = now) -> object:
            return authentication.authenticate((BearerToken(tokens[i]),), METHOD, now)

        def again(_: int, authentication: Authentication = authentication, now: float = now) -> object:
            return authentication.authenticate((BearerToken(tokens[0]),), METHOD, now)

        def with_roles(
            _: int, authentication: Authentication = authentication, mapper: MapperByIssuer = mapper, now: float = now
        ) -> object:
            return mapper.map(authentication.authenticate((BearerToken(tokens[0]),), METHOD, now))

        theirs.append(_median(by_pyjwt, count))
        fresh.append(_median(ours, count))
        known.append(_median(again, 10 * count))
        mapped.append(_median(with_roles, 10 * count))
    found = [statistics.median(times) for times in (theirs, fresh, known, mapped)]
    first = [f"{value:.1f}" for value in found[:2]]
    return [algorithm, *first, f"{found[1] / found[0]:.2f}x", *(f"{value:.2f}" for value in found[2:])]


def _certificates(rounds: int, count: int) -> list[str]:
    ca = CertificateAuthority("Benchmark")
    day = datetime.now(UTC) + timedelta(days=1)
    shown = [ca.issue_client(spiffe_id=f"spiffe://prod/w/{i}", not_after=day).certificate for i in range(count)]
    authority = Authority(
        name="prod",
        anchors=FixedAnchors([x509.load_pem_x509_certificate(ca.pem)]),
        prefix="prod:",
        subject_from="spiffe",
        trust_domains=frozenset({"prod"}),
    )
    fresh, known = [], []
    for _ in range(rounds):
        authenticator = CertificateAuthenticator([authority])
        now = time.time()

        def first(i: int, authenticator: CertificateAuthenticator = authenticator, now: float = now) -> object:
            return authenticator.authenticate(ClientCertificate(shown[i]), now)

        def again(_: int, authenticator: CertificateAuthenticator = authenticator, now: float = now) -> object:
            return authenticator.authenticate(ClientCertificate(bytes(shown[0])), now)

        fresh.append(_median(first, count))
        known.append(_median(again, 10 * count))
    return ["SPIFFE", "-", f"{statistics.median(fresh):.1f}", "-", f"{statistics.median(known):.2f}", "-"]


async def _turns(authentication: Authentication, tokens: Sequence[BearerToken], now: float) -> list[float]:
    """Milliseconds of each turn of the event loop, with one token proven in each."""
    found = []
    for token in tokens:
        began = time.perf_counter_ns()
        with contextlib.suppress(AuthenticationError):
            authentication.authenticate((token,), METHOD, now)
        await asyncio.sleep(0)
        found.append((time.perf_counter_ns() - began) / 1e6)
    return sorted(found)


def _stall(count: int) -> list[list[str]]:
    """Turns of an event loop while the key server of every token's issuer takes requests and never answers."""
    minter = TokenMinter("https://idp.corp.example", "grpc-api")
    tokens = [BearerToken(minter.mint(jti=str(i), header={"kid": f"k{i}"})) for i in range(count)]
    rows = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        refresh = Refresh(interval=0.2, cooldown=0.1, timeout=0.1)
        https = Https(ca_file=None, timeout=refresh.timeout, max_bytes=65_536)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/jwks"
        hung = FetchedKeys("corp", https, refresh, jwks_url=url)
        fixed = FixedKeys(read_key_set(json.dumps(minter.jwks()).encode(), "benchmark"))
        sources: list[tuple[str, KeySource, Sequence[Background]]] = [("answers", fixed, []), ("hangs", hung, [hung])]
        for name, keys, background in sources:
            issuer = _issuer(minter, "ES256", keys)
            authentication = Authentication(TokenAuthenticator([issuer]), background=background, startup=0)
            authentication.start()
            times = asyncio.run(_turns(authentication, tokens, time.time()))
            authentication.close()
            p99, most = times[int(len(times) * 0.99)], times[-1]
            rows.append([name, f"{statistics.median(times):.3f}", f"{p99:.3f}", f"{most:.3f}"])
    return rows


def run(*, quick: bool = False) -> None:
    """Measure, print, and write benchmarks/results/authn.md."""
    rounds, count = (3, 100) if quick else (15, 400)
    rows = [_measure(algorithm, rounds, count) for algorithm in ("RS256", "PS256", "ES256", "EdDSA")]
    rows.append(_certificates(rounds, count // 2))
    header = ["credential", "PyJWT us", "fresh us", "of PyJWT", "known us", "known, with roles us"]
    stalls = _stall(1000 if quick else 20_000)
    table.write(
        "event loop", STALL, ["the key server", "p50 ms", "p99 ms", "longest ms"], stalls, table.machine("one run")
    )
    table.write("authn", EXPLANATION, header, rows, table.machine(f"{rounds} rounds of {count}"))
