"""Who a node is: `identity.json`.

JSON of one object: format, node_id (decimal string: 64 bits do not fit a JSON number), incarnation
(how often the directory was opened), cluster_id, label, log_volume (the log is on a volume of its
own, which may be mounted or not), and checksum, the CRC-32 of the same object without it, keys
sorted, no spaces.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from zlib import crc32

from rsqlite.errors import DamagedFile, ForeignDirectory
from rsqlite.ports import Disk
from rsqlite.storage.finding import REJOIN_ADVICE

FORMAT = 1
"""Of everything in the directory. Raised when an older program could not read it any more."""

IDENTITY_NAME = "identity.json"
IDENTITY_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is. `node_id` is never used again for another directory; `incarnation` rises at
    each start, so that two copies of one directory can be told apart."""

    node_id: int
    incarnation: int
    cluster_id: str | None
    label: str
    format: int = FORMAT
    log_volume: bool = False


def encode_identity(identity: Identity) -> bytes:
    """The content of `identity.json`."""
    value = {
        "format": identity.format,
        "node_id": str(identity.node_id),
        "incarnation": identity.incarnation,
        "cluster_id": identity.cluster_id,
        "label": identity.label,
        "log_volume": identity.log_volume,
    }
    value["checksum"] = f"{crc32(canonical(value)):08x}"
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def decode_identity(data: bytes, path: str) -> Identity:
    """The inverse of `encode_identity`; DamagedFile or ForeignDirectory for anything else."""
    try:
        value = json.loads(data)
        checksum = value.pop("checksum")
        if f"{crc32(canonical(value)):08x}" != checksum:
            raise ValueError("it fails its checksum")
        if value["format"] > FORMAT:
            raise ForeignDirectory(
                f"{path} is of format {value['format']}, and this program knows formats up to"
                f" {FORMAT}: start the version of rsqlite that wrote it, or a newer one"
            )
        return Identity(
            int(value["node_id"]),
            int(value["incarnation"]),
            value["cluster_id"],
            value["label"],
            value["format"],
            bool(value.get("log_volume", False)),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged: {error}. {REJOIN_ADVICE}") from error


def read_identity(directory: str, disk: Disk) -> Identity:
    """The identity in a directory that has one."""
    path = os.path.join(directory, IDENTITY_NAME)
    file = disk.open(path, writable=False)
    try:
        return decode_identity(file.pread(IDENTITY_BYTES_MAX, 0), path)
    finally:
        file.close()


def canonical(value: dict[str, object]) -> bytes:
    """What the checksum of a JSON object is of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
