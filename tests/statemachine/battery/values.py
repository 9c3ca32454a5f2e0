"""Values at their limits: numbers, texts, blobs, rowids, sizes of statements."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, either, fails, refused, together

values = Theme("values")
V = "CREATE TABLE val(id INTEGER PRIMARY KEY, v)"
PUT = "INSERT INTO val(v) VALUES(?)"
SEE = "SELECT id, v, typeof(v), quote(v) FROM val ORDER BY id"
MIB = 1 << 20
values.case(
    "int64 at both ends",
    ask(*[(PUT, n) for n in (2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1, 0, -1)], SEE),
    setup=V,
)
values.case(
    "int64 written out",
    ask(
        "INSERT INTO val(v)"
        " VALUES(9223372036854775807),(-9223372036854775808),(9223372036854775808),"
        "(0x7fffffffffffffff),(0xffffffffffffffff)",
        SEE,
    ),
    setup=V,
)
values.case(
    "floats",
    ask(
        *[(PUT, x) for x in (0.1, 1e308, -1e-308, 5e-324, 1.0, 123456789.125, 1e15, 1e22, 3.0e-5)],
        SEE,
    ),
    setup=V,
)
values.case(
    "infinity",
    ask(
        (PUT, float("inf")), (PUT, float("-inf")), "INSERT INTO val(v) VALUES(9e999),(-9e999)", SEE
    ),
    setup=V,
)
values.case("negative zero", ask((PUT, -0.0), "INSERT INTO val(v) VALUES(-0.0)", SEE), setup=V)
values.case(
    "a float that is an integer in an INTEGER column",
    ask(("INSERT INTO whole VALUES(?),(?),(?)", 2.0, 2.5, "3"), "SELECT n, typeof(n) FROM whole"),
    setup="CREATE TABLE whole(n INTEGER)",
)
values.case(
    "NULL",
    ask((PUT, None), "INSERT INTO val(v) VALUES(NULL)", SEE, "SELECT v = NULL, v IS NULL FROM val"),
    setup=V,
)
values.case(
    "empty text and empty blob",
    ask((PUT, ""), (PUT, b""), "SELECT typeof(v), length(v), v = '' FROM val ORDER BY id"),
    setup=V,
)
values.case(
    "a NUL in text",
    ask((PUT, "a\0b"), (PUT, "\0"), "SELECT v, length(v), hex(v) FROM val ORDER BY id"),
    setup=V,
)
values.case(
    "blobs",
    ask((PUT, bytes(range(256))), (PUT, b"\0"), "INSERT INTO val(v) VALUES(x'00FFab')", SEE),
    setup=V,
)
values.case(
    "text beyond the BMP",
    ask(
        (PUT, "😀 𐍈 🇩🇪 e\u0301 \u202e \ufeff"),
        "SELECT v, length(v), length(CAST(v AS BLOB)) FROM val",
    ),
    setup=V,
)
values.case(
    "text that looks like something else",
    ask(
        *[
            (PUT, s)
            for s in ("1", "1.0", "NULL", "x'00'", "'", '"', "true", "--", "0x10", " 7 ", "1e5")
        ],
        SEE,
    ),
    setup=V,
)
values.case(
    "the same text in a NUMERIC column",
    ask(
        *[
            ("INSERT INTO numc VALUES(?)", s)
            for s in ("1", "1.0", "0x10", " 7 ", "1e5", "9223372036854775808", "abc", "")
        ],
        "SELECT n, typeof(n) FROM numc ORDER BY rowid",
    ),
    setup="CREATE TABLE numc(n NUMERIC)",
)
values.case(
    "quotes in text",
    ask((PUT, "O'Brien; DROP TABLE val; --"), "INSERT INTO val(v) VALUES('it''s')", SEE),
    setup=V,
)
values.case(
    "newlines and tabs",
    ask((PUT, "a\nb\r\n\tc"), "INSERT INTO val(v) VALUES('x\ny')", SEE),
    setup=V,
)
values.case("TRUE and FALSE", ask("INSERT INTO val(v) VALUES(TRUE),(FALSE)", SEE), setup=V)
values.case(
    "a text of a megabyte",
    ask((PUT, "ä" * (MIB // 2)), "SELECT length(v), hex(substr(v, -2)) FROM val"),
    setup=V,
)
values.case(
    "a blob of a megabyte",
    ask((PUT, b"\x01\x02" * (MIB // 2)), "SELECT length(v), hex(substr(v, 1000, 3)) FROM val"),
    setup=V,
)
values.case(
    "a blob of 16 MiB",
    ask((PUT, b"\x07" * (16 * MIB)), "SELECT length(v) FROM val"),
    "UPDATE val SET v = substr(v, 1, 10)",
    setup=V,
    slow=True,
)
values.case(
    "a zeroblob of 4 MiB",
    ask("INSERT INTO val(v) VALUES(zeroblob(4194304))", "SELECT length(v), typeof(v) FROM val"),
    setup=V,
    slow=True,
)
values.case(
    "a value longer than may be",
    refused("INSERT INTO val(v) VALUES(zeroblob(1000000000))", why="too big|too large|too long"),
    "SELECT count(*) FROM val",
    setup=V,
)
values.case(
    "many columns",
    ask(
        "CREATE TABLE wide(" + ", ".join(f"c{i}" for i in range(300)) + ")",
        "INSERT INTO wide(c0, c299) VALUES(1, 2)",
        "SELECT c0, c150, c299 FROM wide",
    ),
)
values.case(
    "too many columns",
    fails(
        "CREATE TABLE wide(" + ", ".join(f"c{i}" for i in range(2001)) + ")", why="too many columns"
    ),
)
values.case(
    "a deep expression",
    ask(
        "SELECT " + "(" * 90 + "1" + ")" * 90,
        "INSERT INTO val(v) VALUES(" + " + ".join(["1"] * 400) + ")",
        SEE,
    ),
    setup=V,
)
values.case(
    "a too deep expression",
    fails(
        "INSERT INTO val(v) VALUES(" + " + ".join(["1"] * 1200) + ")",
        why="Expression tree is too large",
    ),
    setup=V,
)
values.case(
    "a compound of many SELECTs",
    "INSERT INTO val(v) " + " UNION ALL ".join(["SELECT 1"] * 300),
    "SELECT count(*) FROM val",
    setup=V,
)
values.case(
    "too many SELECTs",
    fails(
        "INSERT INTO val(v) " + " UNION ALL ".join(["SELECT 1"] * 501),
        why="too many terms in compound SELECT",
    ),
    setup=V,
)
values.case(
    "VALUES of two thousand rows",
    "INSERT INTO val(v) VALUES" + ",".join(f"({i})" for i in range(2000)),
    "SELECT count(*), sum(v) FROM val",
    setup=V,
)
values.case(
    "150 ORs",
    "DELETE FROM val WHERE " + " OR ".join(f"v = {i}" for i in range(150)),
    setup=(V, "INSERT INTO val(v) VALUES(3),(149),(150)"),
)
values.case(
    "IN with a thousand values",
    "DELETE FROM val WHERE v IN (" + ",".join(map(str, range(1000))) + ")",
    setup=(V, "INSERT INTO val(v) VALUES(3),(999),(1000)"),
)
values.case("a LIKE pattern that is long", ask("SELECT 'a' LIKE '" + "%a" * 400 + "'"))
values.case(
    "the largest rowid but one",
    ask("INSERT INTO val(id, v) VALUES(9223372036854775806, 'x')", "SELECT id FROM val"),
    setup=V,
)
values.case(
    "the largest rowid is refused",
    refused("INSERT INTO val(id, v) VALUES(9223372036854775807, 'x')", why="rowid"),
    "INSERT INTO val(v) VALUES('y')",
    SEE,
    setup=V,
)
values.case(
    "the largest rowid, by a parameter",
    refused("INSERT INTO val(id, v) VALUES(?, 'x')", 2**63 - 1, why="rowid"),
    "SELECT count(*) FROM val",
    setup=V,
)
values.case(
    "the largest rowid, by itself",
    refused("INSERT INTO val(v) VALUES('next')", why="rowid"),
    "SELECT count(*) FROM val",
    setup=(V, "INSERT INTO val(id, v) VALUES(9223372036854775806, 'x')"),
)
values.case(
    "the largest rowid, in a trigger",
    ask(
        refused("INSERT INTO src VALUES(1)", why="rowid"),
        "SELECT (SELECT count(*) FROM src), (SELECT count(*) FROM val)",
    ),
    setup=(
        V,
        "CREATE TABLE src(x)",
        "CREATE TRIGGER t AFTER INSERT ON src BEGIN INSERT INTO val(id)"
        " VALUES(9223372036854775807); END",
    ),
)
values.case(
    "the largest rowid, by UPDATE",
    refused("UPDATE val SET id = 9223372036854775807", why="rowid"),
    SEE,
    setup=(V, "INSERT INTO val(v) VALUES('x')"),
)
values.case(
    "the largest rowid, among other rows",
    ask(
        "INSERT INTO val(v) VALUES('a')",
        refused("INSERT INTO val(id) VALUES(5),(9223372036854775807),(6)", why="rowid"),
        "INSERT INTO val(v) VALUES('b')",
        SEE,
    ),
    setup=V,
)
values.case(
    "the largest rowid, in a transaction",
    together(
        "INSERT INTO val(v) VALUES('a')",
        refused("INSERT INTO val(id) VALUES(9223372036854775807)", why="rowid"),
    ),
    SEE,
    setup=V,
)
values.case(
    "AUTOINCREMENT that is full",
    ask(
        fails("INSERT INTO seq(v) VALUES('b')", why="database or disk is full"),
        "SELECT count(*) FROM seq",
    ),
    setup=(
        "CREATE TABLE seq(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "INSERT INTO seq(v) VALUES('a')",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'seq'",
    ),
    alone=True,
)
values.case(
    "2^63-1 where it is no rowid",
    ask(("INSERT INTO kv VALUES(?, ?)", 2**63 - 1, 2**63 - 1), "SELECT k FROM kv"),
    setup="CREATE TABLE kv(k INTEGER PRIMARY KEY, v) WITHOUT ROWID",
)

NEXT = ask("INSERT INTO val(v) VALUES('next')", "SELECT id FROM val ORDER BY id")
LARGEST = "VALUES(9223372036854775807, 'x')"
values.case(
    "the largest rowid, in a statement that fails",
    fails(f"INSERT INTO val {LARGEST},(1, NULL)", why="NOT NULL"),
    NEXT,
    ask(fails(f"INSERT INTO val {LARGEST},(1, NULL)", why="NOT NULL"), *NEXT.statements),
    together(fails(f"INSERT INTO val {LARGEST},(1, NULL)", why="NOT NULL")),
    NEXT,
    setup="CREATE TABLE val(id INTEGER PRIMARY KEY, v NOT NULL)",
)
values.case(
    "the largest rowid, by OR FAIL",
    refused(f"INSERT OR FAIL INTO val {LARGEST},(1, NULL)", why="rowid|NOT NULL"),
    NEXT,
    ask(refused(f"INSERT OR FAIL INTO val {LARGEST},(1, NULL)", why="rowid|NOT NULL")),
    NEXT,
    setup="CREATE TABLE val(id INTEGER PRIMARY KEY, v NOT NULL)",
)
values.case(
    "the largest rowid, by RAISE(FAIL)",
    refused(f"INSERT INTO val {LARGEST},(1, 'no')", why="rowid|stop"),
    NEXT,
    NEXT,
    setup=(
        V,
        "CREATE TRIGGER t AFTER INSERT ON val WHEN new.v = 'no' BEGIN"
        " SELECT RAISE(FAIL, 'stop'); END",
    ),
)
values.case(
    "the largest rowid, by UPDATE OR FAIL",
    refused("UPDATE OR FAIL val SET id = 9223372036854775807", why="rowid|UNIQUE"),
    NEXT,
    setup=(V, "INSERT INTO val(v) VALUES('a'),('b')"),
)
values.case(
    "the largest rowid, come and gone in one statement",
    either(f"INSERT INTO val {LARGEST}"),
    NEXT,
    setup=(V, "CREATE TRIGGER t AFTER INSERT ON val BEGIN DELETE FROM val WHERE id > 1000; END"),
)

THEMES = (values,)
