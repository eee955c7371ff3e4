"""Events to rows and back, and what a transaction decides: pure, so property-tested without a database."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import ConflictError, FencedError
from kernel.events import canonical_json, intent_stream
from kernel.log import Append, Appended, Head, StoredRow, Write
from kernel.log.engine.batch import Batch, decide
from kernel.log.engine.records import Writer, envelope_of, event_of, meta_bytes, prepare
from kernel.log.hashing import GENESIS, verify_rows
from kernel.models import Evidence
from tests.commands import an_event

EMPTY = Head(0, GENESIS, 0, 0)
WRITER = Writer(os_user="me", host="here", pid=7)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
appends = st.builds(
    Append,
    command_id=st.binary(min_size=16, max_size=16),
    writes=st.lists(
        st.builds(
            Write,
            st.sampled_from(["intent:a", "intent:b", "intent:c"]),
            st.lists(st.just(an_event()), min_size=1, max_size=3).map(tuple),
            st.sampled_from([None, None, 0, 1, 2, 3]),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    actor=texts,
    evidence=st.sampled_from(Evidence),
    correlation_id=st.none() | texts,
    causation_position=st.none() | st.integers(0, 2**63 - 1),
    epoch=st.sampled_from([None, None, None, 0, 1]),
)


def decided(appends_: list[Append], *, head: Head = EMPTY, now_ns: int = 5, **given: Any) -> Batch:
    """A batch over nothing known."""
    arguments: dict[str, Any] = {"known": {}, "versions": {}, **given}
    return decide([prepare(each, WRITER) for each in appends_], head=head, now_ns=now_ns, **arguments)


@given(appends, st.none() | texts)
def test_meta_is_canonical(append: Append, session_user: str | None) -> None:
    """The envelope put together by hand is byte for byte the canonical JSON of its fields, absent ones left out."""
    writer = Writer(os_user='u"ser', host="höst", pid=1, session_user=session_user)
    fields = {
        "actor": append.actor,
        "evidence": append.evidence.value,
        "correlation_id": append.correlation_id,
        "causation_position": append.causation_position,
        "os_user": writer.os_user,
        "host": writer.host,
        "pid": writer.pid,
        "session_user": session_user,
    }
    expected = canonical_json({key: value for key, value in fields.items() if value is not None})
    assert meta_bytes(append, writer) == expected
    assert json.loads(expected)["actor"] == append.actor


@given(st.lists(appends, max_size=12), st.integers(0, 10**18))
def test_a_batch_is_gapless_and_hashed(given_appends: list[Append], now_ns: int) -> None:
    """Whatever is accepted gets positions without gaps, versions without gaps in each stream, and a chain that verifies."""
    head = Head(7, b"c" * 32, 0, 10**17)
    batch = decided(given_appends, head=head, now_ns=now_ns)
    rows = [StoredRow(*row) for row in batch.rows]
    assert verify_rows(rows, after=7, chain=head.chain_hash) == batch.head.chain_hash
    assert batch.head.position == 7 + len(rows)
    assert {row.recorded_at_ns for row in rows} <= {max(now_ns, head.recorded_at_ns)}
    for stream_id in {row.stream_id for row in rows}:
        versions = [row.version for row in rows if row.stream_id == stream_id]
        assert versions == list(range(1, len(versions) + 1))
        assert batch.versions[stream_id] == len(versions)


@given(st.lists(appends, max_size=12))
def test_commands_in_one_batch_do_as_one_by_one(given_appends: list[Append]) -> None:
    """A batch decides exactly what the same commands would get one transaction each."""
    together = decided(given_appends)
    head, outcomes = EMPTY, []
    known: dict[bytes, tuple[int, int]] = {}
    versions: dict[str, int] = {}
    for append in given_appends:
        alone = decided([append], head=head, known=known, versions=versions)
        (outcome,) = alone.outcomes
        if isinstance(outcome, Appended):
            known[append.command_id] = (outcome.first_position, outcome.last_position)
        head, versions = alone.head, {**versions, **alone.versions}
        outcomes.append(outcome)
    assert list(map(repr, outcomes)) == list(map(repr, together.outcomes))
    assert head == together.head


@given(st.lists(appends, min_size=1, max_size=6))
def test_what_is_handed_over_is_what_is_read(given_appends: list[Append]) -> None:
    """The events built for readers in this process equal the ones decoded from the rows, envelopes included."""
    batch = decided(given_appends)
    stored = [event_of(StoredRow(*row)) for row in batch.rows]
    live = batch.events()
    assert live == stored
    assert [event.envelope for event in live or []] == [envelope_of(StoredRow(*row)) for row in batch.rows]


def test_a_refused_command_leaves_no_trace() -> None:
    """A conflict in a command's second write takes its first write back."""
    writes = (Write(intent_stream("a"), (an_event(),), 0), Write(intent_stream("b"), (an_event(),), 3))
    batch = decided([Append(b"1" * 16, writes, "t", Evidence.COMMAND)])
    assert isinstance(batch.outcomes[0], ConflictError)
    assert (batch.rows, batch.versions, batch.head) == ([], {}, EMPTY)


def test_a_duplicate_is_answered_before_it_is_fenced() -> None:
    """A command that is in the log already gets its positions, whoever leads by now."""
    append = Append(b"1" * 16, (Write("control", (an_event(),)),), "t", Evidence.COMMAND, epoch=1)
    head = Head(9, GENESIS, 2, 0)
    assert decided([append], head=head, known={append.command_id: (4, 4)}).outcomes == [Appended(4, 4, duplicate=True)]
    assert isinstance(decided([append], head=head).outcomes[0], FencedError)
