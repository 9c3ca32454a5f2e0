"""Other clients, whose requests share a batch with those of a case: they insert, fail, end the
whole transaction, leave half of a statement behind, read counters, roll dice, look at the clock.

They have their own tables, and the same rule holds for their answers.
"""

from __future__ import annotations

import random

from tests.statemachine.battery.model import Ask, Sql, ask, fails, refused, together, varies

SETUP: tuple[Sql, ...] = ask(
    "CREATE TABLE guest(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER CHECK(n < 1000))",
    "CREATE TABLE guest_log(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b, c)",
    "CREATE TABLE guest_child(id INTEGER PRIMARY KEY,"
    " pid REFERENCES guest(id) DEFERRABLE INITIALLY DEFERRED)",
    "INSERT INTO guest VALUES(1,'first',1)",
    "CREATE TRIGGER guest_stop BEFORE INSERT ON guest WHEN new.name = 'stop' BEGIN"
    " INSERT INTO guest_log(a) VALUES('lost');"
    " SELECT RAISE(ROLLBACK, 'guest stopped'); END",
    "CREATE TRIGGER guest_fail BEFORE INSERT ON guest WHEN new.name = 'fail' BEGIN"
    " INSERT INTO guest_log(a) VALUES('kept');"
    " SELECT RAISE(FAIL, 'guest failed'); END",
).statements

VOLATILE = ("guest", "guest_log", "sqlite_stat4")
"""Tables that hold their time and chance: their own, and the samples of ANALYZE."""

UNIQUE = "UNIQUE"
COUNT = "INSERT INTO guest_log(a, b, c) VALUES(last_insert_rowid(), changes(), total_changes())"

GUESTS: tuple[Ask, ...] = (
    ask("INSERT INTO guest(name) VALUES('plain')"),
    ask("INSERT INTO guest(id, name) VALUES(7000,'far'),(7001,'farther'),(7002,'farthest')"),
    ask(fails("INSERT INTO guest(name) VALUES('x1'),('x2'),('first')", why=UNIQUE)),
    ask(fails("INSERT OR FAIL INTO guest(name) VALUES('f1'),('f2'),('first')", why=UNIQUE)),
    ask(fails("INSERT OR ROLLBACK INTO guest(name) VALUES('r1'),('first')", why=UNIQUE)),
    ask(
        "INSERT INTO guest(name) VALUES('before')",
        fails("INSERT OR ROLLBACK INTO guest(name) VALUES('first')", why=UNIQUE),
        "INSERT INTO guest(name) VALUES('after')",
    ),
    ask(fails("INSERT INTO guest(name) VALUES('stop')", why="guest stopped")),
    ask(fails("INSERT INTO guest(name) VALUES('s1'),('fail'),('s2')", why="guest failed")),
    together("INSERT INTO guest(name) VALUES('t1')", "UPDATE guest SET n = 5 WHERE name = 't1'"),
    together(
        "INSERT INTO guest(name) VALUES('t2')",
        fails("INSERT INTO guest(name) VALUES('first')", why=UNIQUE),
    ),
    together(
        "INSERT INTO guest(name) VALUES('t3')",
        fails("INSERT OR ROLLBACK INTO guest(name) VALUES('first')", why=UNIQUE),
    ),
    ask("SELECT last_insert_rowid(), changes(), total_changes()"),
    ask(COUNT),
    ask("INSERT INTO guest(name) VALUES('counted')", COUNT, COUNT),
    ask("DELETE FROM guest WHERE id > 5000", "SELECT changes()"),
    ask(varies("SELECT random(), datetime('now')")),
    ask("INSERT INTO guest(name, n) VALUES(hex(randomblob(8)), abs(random() % 1000))"),
    ask("INSERT INTO guest_log(a, b) VALUES(CURRENT_TIMESTAMP, julianday('now'))"),
    ask("PRAGMA foreign_keys = ON", fails("INSERT INTO guest_child VALUES(1, 99)", why="FOREIGN")),
    ask("PRAGMA foreign_keys = ON", "INSERT INTO guest_child VALUES(2, 1)"),
    ask("INSERT INTO guest_child VALUES(3, 98)"),
    ask("PRAGMA recursive_triggers = ON", "INSERT INTO guest_log(a) VALUES('recursive')"),
    ask(
        "CREATE TABLE guest_fresh(a)", "INSERT INTO guest_fresh VALUES(1)", "DROP TABLE guest_fresh"
    ),
    together("CREATE TABLE guest_lost(a)", fails("nonsense", why="syntax error")),
    ask(fails("SELECT * FROM guest_nowhere", why="no such table")),
    ask(refused("BEGIN", why="transaction|stream"), "INSERT INTO guest(name) VALUES('begun')"),
    ask(refused("ATTACH ':memory:' AS guest_other", why=".")),
    ask("INSERT OR IGNORE INTO guest(name) VALUES('first'),('ignored')", "SELECT changes()"),
    ask("INSERT OR REPLACE INTO guest(id, name) VALUES(2, 'first')"),
    ask("SELECT count(*) FROM guest"),
    ask("INSERT INTO guest(name) VALUES('ret1'),('ret2') RETURNING name, n"),
    ask(fails("UPDATE guest SET n = 5000", why="CHECK")),
)


def mix(own: tuple[Ask, ...], chance: random.Random, strangers: int) -> list[Ask]:
    """The requests of a case in their order, with strangers before, between and behind them."""
    mixed = list(own)
    for guest in chance.sample(GUESTS, strangers):
        mixed.insert(chance.randint(0, len(mixed)), guest)
    return mixed
