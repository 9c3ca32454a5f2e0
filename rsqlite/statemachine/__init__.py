"""The state machine: SQLite, made to do the same on every node.

`StateMachine` is the door. This docstring grows with the floor.
"""

from rsqlite.statemachine.machine import Batch, StateMachine, Statistics

__all__ = ["Batch", "StateMachine", "Statistics"]
