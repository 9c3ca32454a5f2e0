"""The entry's bytes: golden files, and what is done with bytes of another release."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rsqlite.errors import NodeFault
from rsqlite.statemachine.command import FLAG_LONG, Command, decode, encode

GOLDEN = Path(__file__).parent / "golden"

COMMANDS = {
    "single": Command(
        times=[1_700_000_000_000],
        sqls=["INSERT INTO t(v) VALUES(?)"],
        parameters=[["a"]],
        changes=[1],
        rowids=[7],
    ),
    "everything": Command(
        flags=FLAG_LONG,
        times=[1_700_000_000_000, 1_700_000_000_001],
        keys=[b"", b"key"],
        settings=[("foreign_keys", 1)],
        counts=[2, 1],
        sqls=["INSERT INTO t VALUES(:a)", "INSERT OR FAIL INTO t VALUES(random())"],
        texts=[0, 1, 0],
        parameters=[{"a": -1.5}, None, [b"\x00\xff", None, 2**63 - 1, "é"]],
        changes=[1, 2, 0],
        rowids=[1, 3, -(2**63)],
        errors={1: 2067},
        resets={2: (0, 3, 4)},
        streams={1: 2**56 - 1},
        digest_from=1,
        digest=bytes(range(16)),
    ),
    "transactions": Command(
        times=[1_700_000_000_000],
        counts=[1, 2],
        sqls=["INSERT INTO t(v) VALUES(?)"],
        parameters=[["a"], ["b"], ["c"]],
        changes=[1, 1, 1],
        rowids=[7, 8, 9],
        transactions=[1],
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_entry_of_version_1_is_written_as_in_its_golden_file(name: str) -> None:
    golden = bytes.fromhex((GOLDEN / f"command-1-{name}.hex").read_text(encoding="ascii"))
    fields = msgspec.msgpack.decode(encode(COMMANDS[name]))
    assert msgspec.msgpack.encode(fields[: len(msgspec.msgpack.decode(golden))]) == golden


@pytest.mark.parametrize("name", COMMANDS)
def test_an_entry_of_version_1_is_read_for_ever(name: str) -> None:
    golden = bytes.fromhex((GOLDEN / f"command-1-{name}.hex").read_text(encoding="ascii"))
    assert decode(golden) == COMMANDS[name]


@pytest.mark.parametrize("command", [Command(version=2), Command(kind=9)])
def test_an_unknown_version_or_kind_halts_the_node(command: Command) -> None:
    with pytest.raises(NodeFault, match="upgrade this node"):
        decode(encode(command))


def test_a_later_layout_is_named_by_its_version() -> None:
    data = msgspec.msgpack.encode([2, {"another": "shape"}])
    with pytest.raises(NodeFault, match="version 2"):
        decode(data)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x01", b"\x01"])
def test_what_is_no_entry_halts_the_node(data: bytes) -> None:
    with pytest.raises(NodeFault, match="cannot be read"):
        decode(data)


def test_fields_may_be_appended_by_a_later_release() -> None:
    fields = msgspec.msgpack.decode(encode(COMMANDS["single"]))
    assert decode(msgspec.msgpack.encode([*fields, "new"])) == COMMANDS["single"]


def test_a_single_insert_is_small() -> None:
    assert len(encode(COMMANDS["single"])) < 80
