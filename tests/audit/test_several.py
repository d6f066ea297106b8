"""Several sinks: all must take the record, and a failing one keeps it from none of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.audit.base import Entry
from authz.audit.record import Record
from authz.audit.settings import Durability, LogSettings
from authz.audit.several import SeveralSinks
from authz.audit.writer import AuditLog
from authz.call import Call
from authz.decision.base import Decision, Effect
from authz.errors import AuditError
from authz.reason import Reason
from authz.testing import RecordingSink

DECISION = Decision(Effect.DENY, Reason.NO_RULE, None, "", None, None, "id")
RECORD = Record(DECISION, Call("/shop.Orders/Get", ("acme",)), 0, 0)


class Closing(RecordingSink):
    """A sink with an end."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.closed = False
        self.failure = failure

    def close(self) -> None:
        self.closed = True
        if self.failure is not None:
            raise self.failure


def test_every_sink_takes_the_record() -> None:
    sinks = [RecordingSink(), RecordingSink()]
    SeveralSinks(sinks).write(RECORD)
    assert [len(sink.records) for sink in sinks] == [1, 1]


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("failure", [AuditError("full"), OSError(28, "no space"), ValueError("bug")])
def test_one_that_does_not_take_it_fails_the_record_and_the_others_still_have_it(
    failing: int, failure: Exception
) -> None:
    sinks = [RecordingSink(), RecordingSink(), RecordingSink()]
    sinks[failing].fail = failure
    with pytest.raises(AuditError, match=r"1 of the audit sinks took no record: .*(full|no space|bug)"):
        SeveralSinks(sinks).write(RECORD)
    assert [len(sink.records) for sink in sinks] == [int(index != failing) for index in range(3)]


def test_all_are_closed_also_after_one_that_cannot_be() -> None:
    first, last = Closing(OSError("stuck")), Closing()
    with pytest.raises(AuditError, match="1 of the audit sinks could not be closed: OSError: stuck"):
        SeveralSinks([first, RecordingSink(), last]).close()
    assert first.closed
    assert last.closed
    SeveralSinks([last, RecordingSink()]).close()


class Waiting(RecordingSink):
    """A sink that lets an event loop go on."""

    async def write_async(self, record: Entry) -> None:
        self.write(record)


def test_several_sinks_wait_if_one_of_them_does(tmp_path: Path) -> None:
    written = AuditLog(tmp_path / "written.jsonl")
    synced = AuditLog(tmp_path / "synced.jsonl", LogSettings(durability=Durability.SYNCED))
    with written, synced:
        assert (written.waits, synced.waits) == (False, True)
        assert not SeveralSinks([RecordingSink(), written]).waits
        assert SeveralSinks([written, synced]).waits
        assert SeveralSinks([RecordingSink(), Waiting()]).waits


async def test_on_an_event_loop_every_sink_has_the_record_too() -> None:
    one, two, three = RecordingSink(), Waiting(), Waiting()
    await SeveralSinks([one, two]).write_async(RECORD)
    assert [len(sink.records) for sink in (one, two)] == [1, 1]
    one.fail = OSError("full")
    with pytest.raises(AuditError, match="1 of the audit sinks took no record: OSError: full"):
        await SeveralSinks([one, three]).write_async(RECORD)
    assert len(three.records) == 1
