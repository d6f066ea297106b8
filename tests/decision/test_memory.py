"""What is remembered is bounded, whatever is asked. (Ten million strangers: `python -m benchmarks memory`.)"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision import compiled
from authz.decision.compiled import CompiledAuthorizer
from authz.decision.memory import Memory
from authz.decision.rules import Rules
from authz.policy.load import load_bundle
from authz.policy.model import read_model
from tests.bundle import MODEL, caller, write_bundle

STATUS = Path("/proc/self/status")


def resident() -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def stranger(number: int) -> tuple[Claims, Call]:
    namespace = f"nowhere-{number}"
    principal = Principal(PrincipalKind.TOKEN, "corp", f"stranger-{number}", "corp:")
    claims = Claims(principal, frozenset({f"role-{number}"}), {namespace: frozenset({"reader"})})
    return claims, Call("/shop.Orders/Get", (namespace,))


@pytest.mark.skipif(not STATUS.exists(), reason="there is no /proc to read the process's memory from")
def test_strangers_leave_little_behind(tmp_path: Path) -> None:
    authorizer = CompiledAuthorizer(load_bundle(write_bundle(tmp_path / "b")))
    before = resident()
    for number in range(100_000):
        authorizer.authorize(*stranger(number))
    assert resident() - before < 50 * 2**20
    for memory in (authorizer._known.decided, authorizer._known.namespaces, authorizer._known.answers):
        assert len(memory) <= 3 * compiled.LIMIT


def test_a_memory_is_bounded_and_keeps_what_is_used() -> None:
    memory: Memory[int, int] = Memory(16)
    for number in range(10_000):
        memory.keep(number, number)
        assert memory.recall(number) == number
        assert memory.recall(0) == 0
        assert len(memory) <= 3 * 16
    assert memory.recall(5_000) is None


def test_forgotten_answers_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "LIMIT", 4)
    authorizer = CompiledAuthorizer(load_bundle(write_bundle(tmp_path / "b")))
    asked = [(caller(*roles, user=user), Call(f"/shop.Orders/{method}", (namespace,)))
             for roles in (("reader",), ("writer",), ("reader", "writer"), ("other",))
             for user in ("alice", "bob") for method in ("Get", "Put") for namespace in ("a", "b", None)]  # fmt: skip
    first = [authorizer.authorize(*each) for each in asked]
    for _ in range(3):
        assert [authorizer.authorize(*each) for each in asked] == first


def test_threads_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "LIMIT", 8)
    authorizer = CompiledAuthorizer(load_bundle(write_bundle(tmp_path / "b")))
    known = (caller("writer"), Call("/shop.Orders/Put", ("a",)))
    wrong: list[object] = []

    def ask(seed: int) -> None:
        try:
            for number in range(2_000):
                if not authorizer.authorize(*known).effect:
                    wrong.append("the writer was refused")
                claims, call = stranger(seed * 100_000 + number)
                verdict = authorizer.authorize(claims, call)
                if not verdict.effect:
                    wrong.append(verdict)
        except Exception as exc:
            wrong.append(exc)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_lines_of_somebody_else_are_left_as_they_are() -> None:
    model = read_model(MODEL, "model.conf")
    lines = [["p", "role:a", "*", "*", "read", "allow"], ["g", "role:b", "role:a"]]
    rules = Rules(model, lines)
    assert lines == [["p", "role:a", "*", "*", "read", "allow"], ["g", "role:b", "role:a"]]
    owned = Rules(model, lines, owned=True)
    assert owned.rows == rules.rows == [["role:a", "*", "*", "read", "allow"]]
    assert owned.rows[0] is lines[0]
    assert owned.roles["g"].has("role:b", "role:a")


def test_what_is_carried_over_is_not_counted_again() -> None:
    memory: Memory[int, int] = Memory(16)
    for number in range(100):
        memory.keep(number, number)
        memory.recall(0)
        assert memory.stored == number + 1
