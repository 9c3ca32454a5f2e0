"""One record: what is written is what is believed, and nothing else is."""

from __future__ import annotations

import pytest

from rsqlite.storage.record import (
    HEADER_BYTES,
    KINDS,
    PADDING,
    TRUNCATE,
    encode_record,
    header_at,
    is_payload_sound,
    record_bytes,
)

PLACE = 0xFFFFFFF0
DATA = b"payload of some bytes"


def encoded(data: bytes = DATA, kind: int = 1) -> tuple[bytes, int]:
    head, chain = encode_record(kind, 3, 12, data, 4096, 77, PLACE + 4096)
    return head + data + PADDING[len(data) & 7], chain


def is_believed(data: bytes, place: int = PLACE + 4096, at: int = 0) -> bool:
    header = header_at(data, at, place)
    return (
        header is not None
        and at + HEADER_BYTES + header.length <= len(data)
        and is_payload_sound(data, at, header)
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("data", [b"", b"x", b"1234567", b"12345678", bytes(1000)])
def test_a_record_gives_back_what_was_written(kind: int, data: bytes) -> None:
    record, chain = encoded(data, kind)
    assert len(record) == record_bytes(len(data))
    assert len(record) % 8 == 0
    header = header_at(record, 0, PLACE + 4096)
    assert header is not None
    assert header[:6] == (len(data), kind, 3, 12, 4096, 77)
    assert header.chain == chain
    assert is_believed(record)


def test_every_flipped_bit_is_detected() -> None:
    record, _ = encoded()
    for bit in range((HEADER_BYTES + len(DATA)) * 8):
        broken = bytearray(record)
        broken[bit // 8] ^= 1 << bit % 8
        assert not is_believed(bytes(broken)), bit


def test_a_record_is_believed_in_its_place_only() -> None:
    """Neither at another offset nor in another segment: both are in its check."""
    record, _ = encoded()
    for shift in (-4096, -8, 8, 512, 1 << 20):
        assert not is_believed(record, PLACE + 4096 + shift)
    assert is_believed(bytes(16) + record, at=16)


def test_zeros_are_no_record() -> None:
    for place in range(0, 1 << 20, 4093):
        assert header_at(bytes(HEADER_BYTES), 0, place) is None


def test_the_chain_depends_on_everything_before() -> None:
    chains = {
        encode_record(kind, term, index, data, group, previous, 0)[1]
        for kind in (1, TRUNCATE)
        for term in (1, 2)
        for index in (1, 2)
        for data in (b"", b"a")
        for group in (0, 8)
        for previous in (0, 1)
    }
    assert len(chains) == 64
