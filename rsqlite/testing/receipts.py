"""Payments in a simulated cluster: what a sick node computes otherwise than the others.

Each payment is a receipt and a count, made in one transaction; no receipt is there twice. A node
whose receipts were changed behind its back takes payments that the others refuse, and the reverse:
by a key, by a trigger that ends the transaction, by a reference that COMMIT would look at. Whatever
it acknowledged, in the end there are as many receipts as were counted.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from rsqlite.request import Request, RequestKind

RECEIPTS = 40
SCHEMA = (
    "CREATE TABLE receipts(id INTEGER PRIMARY KEY)",
    "CREATE TABLE ledger(n INTEGER)",
    "INSERT INTO ledger VALUES(0)",
    "CREATE TABLE copies(id INTEGER PRIMARY KEY,"
    " receipt REFERENCES receipts DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TRIGGER once BEFORE INSERT ON receipts WHEN new.id % 4 = 0"
    " AND EXISTS(SELECT 1 FROM receipts WHERE id = new.id)"
    " BEGIN SELECT RAISE(ROLLBACK, 'there already'); END",
)
TAMPERINGS = (
    "DELETE FROM receipts WHERE id % 3 = 0",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
    f" WHERE i < {RECEIPTS})"
    " INSERT OR IGNORE INTO receipts SELECT i FROM n WHERE i % 4 <> 0",
    "UPDATE OR IGNORE receipts SET id = id + 1 WHERE id % 4 = 1",
)
"""What may be done to them behind a node's back."""

_RECEIPT = "INSERT INTO receipts VALUES(?)"
_COUNT = "UPDATE ledger SET n = n + 1"
_COPY = "INSERT INTO copies(receipt) VALUES(?)"
_UNPAY = ("DELETE FROM receipts WHERE id = ?", "UPDATE ledger SET n = n - changes()")


def operation(chance: random.Random) -> Request:
    """Something that a client does."""
    receipt = [chance.randint(1, RECEIPTS)]
    pay = ([_COUNT, _RECEIPT], [None, receipt])
    sqls, parameters = chance.choice(
        (
            pay,
            pay,
            ([_RECEIPT, _COUNT], [receipt, None]),
            ([_COUNT, _RECEIPT, _COPY], [None, receipt, receipt]),
            ([*_UNPAY], [receipt, None]),
            ([_COPY], [receipt]),
            ([_COPY], [receipt]),
        )
    )
    return Request(RequestKind.EXECUTE, sqls, parameters, transaction=True)


def problem(content: Mapping[str, Sequence[Sequence[Any]]], *, has_keys: bool) -> str:
    """What is wrong with the rows of these tables; empty: nothing. `has_keys`: references are
    enforced."""
    receipts = {one for (one,) in content["receipts"]}
    ((counted,),) = content["ledger"]
    if counted != len(receipts):
        return f"{counted} payments were counted, and there are {len(receipts)} receipts"
    dangling = sorted({receipt for _, receipt in content["copies"]} - receipts)
    if has_keys and dangling:
        return f"copies of receipts that are not there: {dangling[:5]}"
    return ""
