"""The identity of a node is believed as a whole, or not at all."""

from __future__ import annotations

import pytest

from rsqlite.errors import DamagedFile
from rsqlite.storage.identity import Identity, decode_identity, encode_identity


def test_every_flipped_bit_of_the_identity_is_detected_or_harmless() -> None:
    identity = Identity(0xDEADBEEF12345678, 5, "cluster", "node é")
    data = encode_identity(identity)
    assert decode_identity(data, "x") == identity
    harmless = 0
    for bit in range(len(data) * 8):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            found = decode_identity(bytes(broken), "x")
        except DamagedFile:
            continue
        # Only white space between the fields may differ.
        assert found == identity
        harmless += 1
    assert harmless < 60


def test_a_cut_or_strange_identity_is_damage() -> None:
    data = encode_identity(Identity(1, 1, None, ""))
    for broken in (
        *(data[:n] for n in range(len(data) - 2)),
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 60_000,
    ):
        with pytest.raises(DamagedFile, match="identity"):
            decode_identity(broken, "identity")
