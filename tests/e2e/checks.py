"""What a run's evidence proves: the problems found, in words, and none when all was kept."""

from __future__ import annotations

from typing import Any

from tests.e2e.clients import ACCOUNTS, BALANCE
from tests.e2e.history import History, Ledger
from tests.e2e.linearizability import Undecided, is_linearizable

CONTENT_QUERIES = [
    "SELECT marker, count(*) FROM markers GROUP BY marker",
    "SELECT rows FROM totals",
    "SELECT count(*), sum(balance) FROM accounts",
]


def content_problems(ledger: Ledger, results: list[dict[str, Any]]) -> list[str]:
    """One node's answers to CONTENT_QUERIES against what the clients were told."""
    markers, totals, accounts = (one.get("values", []) for one in results)
    counted: dict[str, int] = dict(markers)
    problems = ledger.problems(counted)
    rows = sum(counted.values())
    if totals != [[rows]]:
        problems.append(f"a trigger counted {totals} of {rows}")
    if accounts != [[ACCOUNTS, ACCOUNTS * BALANCE]]:
        problems.append(f"the accounts are {accounts}")
    return problems


def register_problems(history: History) -> list[str]:
    """Every register by itself: linearizable, or not, or not decided (which is no pass)."""
    problems = []
    registers = history.registers()
    for key, operations in registers.items():
        try:
            if not is_linearizable(operations, None):
                problems.append(f"register {key} is not linearizable")
        except Undecided as undecided:
            problems.append(f"register {key}: undecided, {undecided}")
    if not registers:
        problems.append("no register was used")
    return problems
