"""The state machine: SQLite, made to do the same on every node.

`StateMachine` is the door. This docstring grows with the floor.
"""

from rsqlite.statemachine.batch import Batch
from rsqlite.statemachine.check import check_database
from rsqlite.statemachine.machine import StateMachine, Statistics

__all__ = ["Batch", "StateMachine", "Statistics", "check_database"]
