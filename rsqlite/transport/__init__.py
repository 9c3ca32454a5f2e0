"""transport"""

from rsqlite.transport.codec import (
    ANSWER,
    CALL,
    decode_call,
    decode_message,
    encode_call,
    encode_message,
    frame,
    is_urgent,
)
from rsqlite.transport.network import PeerNetwork
from rsqlite.transport.peer import LinkStatus

__all__ = [
    "ANSWER",
    "CALL",
    "LinkStatus",
    "PeerNetwork",
    "decode_call",
    "decode_message",
    "encode_call",
    "encode_message",
    "frame",
    "is_urgent",
]
