"""PEERS: how the nodes of a cluster reach each other. The wire format, byte by byte.

Every node listens on its raft address and dials every other member. It sends on the link it
dialled; only while it has none, on the one that the other dialled. So two nodes that dial each
other at once need no rule, one sender's frames come in one order (but for the moment in which its
own link opens), and a node that is no member yet gets its answers. Nobody but nodes speaks here;
users have HTTP.

Who are you
    `GET /raft/v1/identity` is answered with a JSON object about the node, for the discovery of a
    first cluster. It is the only thing a stranger gets.

Handshake
    The dialler asks, on a connection of its own, and sends nothing more before it has the answer:

        GET /raft/v1/link HTTP/1.1
        Connection: Upgrade
        Upgrade: rsqlite-raft
        Rsqlite-Protocol: 1             the version of everything below
        Rsqlite-Cluster: <cluster id>
        Rsqlite-Node: <node id>         of the dialler, decimal, 64 bits
        Rsqlite-Address: <host:port>    where the dialler is reached
        Rsqlite-Target: <node id>       whom it means to reach: addresses get reused

    101 grants the link and repeats protocol, cluster and the listener's node id, which the
    dialler checks in turn. Refusals carry a sentence: 400 not a dialler's headers, 409 another
    cluster (or the listener's own id: a copied directory), 421 another node, 426 another
    protocol, 503 stopping. A listener without a cluster may be adopted by the first that dials
    (`accept_cluster`); a dialler without a cluster stays silent. A release that brings another
    protocol speaks this one as well, or nodes could not be upgraded one by one: it grants links of
    either, and who gets 426 for the newer dials again with the older.

Pieces
    After the 101 the stream is pieces, in both directions:

        offset  bytes
        0       2      magic 0x5251 ("RQ")
        2       2      flags: 1 another piece of this frame follows; 2 urgent; others must be 0
        4       4      length of what follows the header, 1 to 1 MiB; at least 4 KiB with flag 1
        8       4      CRC-32 of what follows, begun with the flags instead of 0
        12      …      the bytes

    Big-endian. A frame is one piece, or several of one class (urgent or not) in a row; pieces of
    the other class may come between them, so a heartbeat never waits for a large frame. The bytes
    of both frames under way are at most `peer_frame_bytes_max`. The length is checked when the
    header is there, before anything is kept. The first byte that breaks a rule ends the connection.

Frames
    One byte of kind, then (u64 where nothing else is said, terms and indices at most 2^63-1):

        0   sign of life       nothing; stays in the transport
        1   RequestVote        source target term last_log_index last_log_term
                               u8 flags: 1 pre_vote, 2 transfer
        2   RequestVoteReply   source target term, u8 flags: 1 granted, 2 pre_vote
        3   AppendEntries      source target term prev_log_index prev_log_term commit_index round
                               u32 count, count times {term, u8 kind, u32 length}, the data of all
        4   AppendEntriesReply source target term match_index hint_index hint_term round
                               u8 flags: 1 success
        5   Heartbeat          source target term commit_index round
        6   HeartbeatReply     source target term round, u8 room: 0 ample, 1 short, 2 none;
                               + 4 if it cannot lead; applied_index
        7   TimeoutNow         source target term
        8   ReadIndex          source target term context
        9   ReadIndexReply     source target term context index, u8 flags: 1 index is known
        16  InstallSnapshot    source target term last_index last_term, then what node/images put
        32  CALL               call id, then what node/forwarding put there
        33  ANSWER             call id, then the same

    The index of an entry is prev_log_index + its position, so a message cannot even say that its
    entries have a gap. All but 3, 32 and 33 are urgent. Images themselves do not go over links:
    they are fetched in parts, each with a GET of its own to /raft/v1/image/.

Life
    The dialler sends a sign of life every `peer_pulse`, the listener answers one per pulse if it
    heard anything. After `peer_stall_timeout` of silence either side ends the connection, and the
    dialler opens it anew. An end of the stream is told at once (`closed`): that is how the death of
    a leader's process is noticed before any timeout.

Where more will sit: TLS goes around the connection (`create_server` in `listener.py`,
`create_connection` in `handshake.py`), who a certificate names is compared with the hello in
`handshake.refusal`, before any frame is read.
"""

from rsqlite.transport.alone import NoNetwork
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
from rsqlite.transport.handshake import LinkRefused
from rsqlite.transport.network import PeerNetwork
from rsqlite.transport.peer import LinkStatus

__all__ = [
    "ANSWER",
    "CALL",
    "LinkRefused",
    "LinkStatus",
    "NoNetwork",
    "PeerNetwork",
    "decode_call",
    "decode_message",
    "encode_call",
    "encode_message",
    "frame",
    "is_urgent",
]
