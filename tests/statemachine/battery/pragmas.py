"""PRAGMAs: those that act, those of one request, and those that would break a node."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, either, fails, refused, together, varies

pragmas = Theme("pragmas")
V = "CREATE TABLE val(id INTEGER PRIMARY KEY, v)"
ONE = "INSERT INTO val(v) VALUES('a')"
SEE = "SELECT id, v FROM val ORDER BY id"
ANY = "."
for _name, _number in (("user_version", 42), ("application_id", 1196444487)):
    pragmas.case(
        f"{_name}",
        ask(f"PRAGMA {_name} = {_number}", f"PRAGMA {_name}"),
        ask(f"PRAGMA {_name}"),
        alone=True,
    )
    pragmas.case(
        f"{_name} in a transaction that fails",
        together(f"PRAGMA {_name} = {_number}", fails("nonsense", why="syntax")),
        ask(f"PRAGMA {_name}"),
        alone=True,
    )
    pragmas.case(
        f"{_name} in a transaction",
        together(f"PRAGMA {_name} = {_number}", "CREATE TABLE made(a)"),
        ask(f"PRAGMA {_name}"),
        alone=True,
    )
    pragmas.case(
        f"{_name} by its call form",
        ask(f"PRAGMA {_name}({_number})"),
        ask(f"PRAGMA main.{_name}"),
        alone=True,
    )
pragmas.case(
    "table_info and its kin",
    ask(
        "PRAGMA table_info(val)",
        "PRAGMA table_xinfo(val)",
        "PRAGMA index_list(val)",
        "PRAGMA index_info(by_v)",
        "PRAGMA index_xinfo(by_v)",
        "PRAGMA foreign_key_list(val)",
    ),
    setup=(V, "CREATE INDEX by_v ON val(v)"),
)
pragmas.case("table_info in a read", ask("PRAGMA table_info(val)", kind="query"), setup=V)
pragmas.case(
    "integrity checks",
    ask("PRAGMA integrity_check", "PRAGMA quick_check"),
    setup=(V, ONE),
    alone=True,  # of all tables, also one with a CHECK that rolls dice
)
pragmas.case(
    "what a client asks at the start",
    ask(
        "PRAGMA encoding",
        "PRAGMA page_size",
        "PRAGMA foreign_keys",
        "PRAGMA auto_vacuum",
        "PRAGMA recursive_triggers",
    ),
)
pragmas.case(
    "lists",
    ask(
        "PRAGMA collation_list",
        varies("PRAGMA function_list"),
        varies("PRAGMA module_list"),
        varies("PRAGMA pragma_list"),
    ),
)
pragmas.case("compile options", ask("PRAGMA compile_options"))
for _name in (
    "synchronous",
    "cache_size",
    "temp_store",
    "mmap_size",
    "busy_timeout",
    "wal_autocheckpoint",
    "page_count",
    "freelist_count",
    "data_version",
    "schema_version",
    "database_list",
    "secure_delete",
    "trusted_schema",
    "cell_size_check",
):
    pragmas.case(f"{_name} of the node, asked", ask(varies(f"PRAGMA {_name}"), ONE, SEE), setup=V)
for _name in ("journal_mode", "locking_mode", "query_only", "encoding", "application_id"):
    pragmas.case(f"{_name}, asked", ask(f"PRAGMA {_name}", ONE, SEE), setup=V)
for _text in (
    "journal_mode = DELETE",
    "temp.user_version = 5",
    "temp.application_id = 5",
    "journal_mode(OFF)",
    "main.journal_mode = MEMORY",
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    "wal_autocheckpoint = 1",
    "wal_checkpoint",
    "wal_checkpoint(TRUNCATE)",
    "query_only = ON",
    "writable_schema = 1",
    "writable_schema = RESET",
    "schema_version = 99",
    "trusted_schema = ON",
    "reverse_unordered_selects = ON",
    "page_size = 512",
    "max_page_count = 10",
    "auto_vacuum = FULL",
    "incremental_vacuum",
    "encoding = 'UTF-16'",
    "cache_spill = OFF",
    "journal_size_limit = 0",
    "read_uncommitted = 1",
    "temp_store_directory = '/'",
    "hard_heap_limit = 1000",
    "soft_heap_limit = 1000",
    "mmap_size = 1000",
    "threads = 4",
    "shrink_memory",
    "cell_size_check = 1",
    "fullfsync = 1",
    "checkpoint_fullfsync = 0",
    "automatic_index = OFF",
    "busy_timeout = 100000",
    "temp_store = 2",
):
    pragmas.case(f"{_text}, set", ask(ONE, refused(f"PRAGMA {_text}", why=ANY), ONE, SEE), setup=V)
pragmas.case(
    "hidden behind a comment",
    ask(refused("/* ok */ PRAGMA/**/journal_mode=delete", why=ANY), ONE),
    setup=V,
)
pragmas.case(
    "as the second statement of a string",
    ask(refused("SELECT 1; PRAGMA synchronous = OFF", why=ANY), ONE),
    setup=V,
)
pragmas.case(
    "reverse_unordered_selects does not reach a LIMIT",
    ask(
        refused("PRAGMA reverse_unordered_selects = 1", why=ANY),
        "DELETE FROM val WHERE id IN (SELECT id FROM val LIMIT 1)",
    ),
    SEE,
    setup=(V, ONE, ONE, ONE),
)
pragmas.case(
    "optimize",
    ask(ONE, either("PRAGMA optimize"), ONE, SEE),
    setup=(V, "CREATE INDEX by_v ON val(v)"),
)
pragmas.case(
    "an unknown pragma",
    ask(either("PRAGMA no_such_pragma"), either("PRAGMA no_such_pragma = 1"), ONE),
    setup=V,
)
pragmas.case(
    "case_sensitive_like for one request",
    ask("PRAGMA case_sensitive_like = ON", "DELETE FROM val WHERE v LIKE 'A'"),
    "DELETE FROM val WHERE v LIKE 'A'",
    setup=(V, "INSERT INTO val(v) VALUES('a'),('A'),('b')"),
)
pragmas.case(
    "case_sensitive_like, seen between",
    ask("PRAGMA case_sensitive_like = ON", "SELECT 'a' LIKE 'A'"),
    ask("SELECT 'a' LIKE 'A'"),
)
pragmas.case(
    "ignore_check_constraints for one request",
    ask("PRAGMA ignore_check_constraints = ON", "INSERT INTO pos VALUES(-1)"),
    fails("INSERT INTO pos VALUES(-2)", why="CHECK"),
    "SELECT * FROM pos",
    setup="CREATE TABLE pos(n CHECK(n > 0))",
)
pragmas.case(
    "recursive_triggers for one request",
    ask("PRAGMA recursive_triggers = ON", "PRAGMA recursive_triggers", ONE),
    ask("PRAGMA recursive_triggers"),
    setup=V,
)
pragmas.case(
    "legacy_alter_table for one request",
    ask("PRAGMA legacy_alter_table = ON", "ALTER TABLE val RENAME TO other"),
    ask("PRAGMA legacy_alter_table", "SELECT sql FROM sqlite_schema WHERE name = 'vw'"),
    setup=(V, "CREATE VIEW vw AS SELECT v FROM val"),
)
pragmas.case(
    "two settings at once",
    ask("PRAGMA foreign_keys = ON", "PRAGMA recursive_triggers = ON", ONE, "PRAGMA foreign_keys"),
    ask("PRAGMA foreign_keys", "PRAGMA recursive_triggers"),
    setup=V,
)
pragmas.case(
    "settings that come and go",
    ask("PRAGMA recursive_triggers = ON", ONE),
    ONE,
    ask("PRAGMA ignore_check_constraints = ON", ONE),
    ONE,
    ask("PRAGMA case_sensitive_like = ON", ONE),
    SEE,
    setup=V,
)
pragmas.case(
    "a setting given as a word",
    ask(
        "PRAGMA recursive_triggers = yes",
        "PRAGMA recursive_triggers",
        either("PRAGMA recursive_triggers = false"),
        "PRAGMA recursive_triggers",
        ONE,
    ),
    setup=V,
)
pragmas.case(
    "a setting after a write", ask(ONE, either("PRAGMA recursive_triggers = ON"), ONE), SEE, setup=V
)
pragmas.case("a setting alone", ask("PRAGMA foreign_keys = ON"), ask("PRAGMA foreign_keys"))
pragmas.case(
    "SQLAlchemy's and Django's opening words",
    ask(
        "PRAGMA foreign_keys = ON",
        "SELECT CAST('test plain returns' AS VARCHAR(60)) AS anon_1",
        'PRAGMA main.table_info("val")',
        either("PRAGMA legacy_alter_table = OFF"),
        "SELECT sqlite_version() = sqlite_version()",
    ),
    setup=V,
)

THEMES = (pragmas,)
