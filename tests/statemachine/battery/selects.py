"""SELECT inside writes and beside them: CTEs, windows, JSON, functions."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails

selects = Theme("select")
SALE = "CREATE TABLE sale(id INTEGER PRIMARY KEY, day TEXT, shop TEXT, n INT)"
ROWS = (
    "INSERT INTO sale(day, shop, n) VALUES('2024-01-01','a',5),('2024-01-01','b',7),"
    "('2024-01-02','a',3),('2024-01-02','b',NULL),('2024-01-03','a',9)"
)
OUT = "CREATE TABLE out(a, b, c)"
selects.case("VALUES alone", ask("VALUES(1,'x'),(2,NULL)"))
selects.case(
    "column names and types",
    ask("SELECT id, day AS d, n + 1, 'x' AS \"a b\", s.shop FROM sale s"),
    setup=(SALE, ROWS),
)
selects.case("two columns of one name", ask("SELECT 1 AS a, 2 AS a"))
selects.case("no rows still has columns", ask("SELECT * FROM sale"), setup=SALE)
selects.case(
    "joins of every kind",
    ask(
        "SELECT * FROM l JOIN r ON a = x",
        "SELECT * FROM l LEFT JOIN r ON a = x",
        "SELECT * FROM l RIGHT JOIN r ON a = x",
        "SELECT * FROM l FULL JOIN r ON a = x",
        "SELECT * FROM l CROSS JOIN r",
        "SELECT * FROM l NATURAL JOIN l AS m",
    ),
    setup=(
        "CREATE TABLE l(a)",
        "CREATE TABLE r(x)",
        "INSERT INTO l VALUES(1),(2)",
        "INSERT INTO r VALUES(2),(3)",
    ),
)
selects.case(
    "groups and aggregates",
    ask(
        "SELECT shop, count(*), count(n), sum(n), total(n), avg(n), min(day), max(n),"
        " group_concat(n, '/') FROM sale GROUP BY shop HAVING count(*) > 1",
        "SELECT count(DISTINCT shop), sum(n) FILTER (WHERE n > 4), string_agg(shop, ',' ORDER"
        " BY id DESC) FROM sale",
    ),
    setup=(SALE, ROWS),
)
selects.case(
    "windows into a table",
    ask(
        "INSERT INTO out SELECT id, row_number() OVER (PARTITION BY shop ORDER BY day), sum(n)"
        " OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM sale",
        "SELECT a, b, c, lag(c) OVER w, ntile(2) OVER w, first_value(a) OVER w FROM out WINDOW"
        " w AS (ORDER BY a)",
    ),
    setup=(SALE, ROWS, OUT),
)
selects.case(
    "an UPDATE from a window",
    "UPDATE sale SET n = r FROM (SELECT id AS k, rank() OVER (ORDER BY n DESC NULLS LAST, id)"
    " AS r FROM sale) WHERE id = k",
    setup=(SALE, ROWS),
)
selects.case(
    "a recursive CTE over a tree",
    ask(
        "WITH RECURSIVE up(id, d) AS (SELECT 1, 0 UNION ALL SELECT node.id, d + 1 FROM node"
        " JOIN up ON node.top = up.id ORDER BY 2 DESC) SELECT * FROM up",
        "WITH RECURSIVE up(id) AS (SELECT 4 UNION SELECT top FROM node JOIN up USING(id))"
        " DELETE FROM node WHERE id IN up",
    ),
    setup=(
        "CREATE TABLE node(id INTEGER PRIMARY KEY, top)",
        "INSERT INTO node VALUES(1,NULL),(2,1),(3,1),(4,2),(5,4)",
    ),
)
selects.case(
    "CTEs, materialized or not",
    ask(
        "WITH a(x) AS MATERIALIZED (SELECT n FROM sale), b AS NOT MATERIALIZED (SELECT x FROM a"
        " WHERE x > 4) INSERT INTO out(a) SELECT x FROM b ORDER BY x",
        "SELECT a FROM out",
    ),
    setup=(SALE, ROWS, OUT),
)
selects.case(
    "compound, order, limit, offset",
    ask(
        "SELECT n FROM sale UNION SELECT 99 ORDER BY 1 DESC NULLS FIRST LIMIT 3 OFFSET 1",
        "SELECT n FROM sale INTERSECT VALUES(5),(9)",
    ),
    setup=(SALE, ROWS),
)
selects.case(
    "CASE, IIF, COALESCE, IS DISTINCT FROM",
    ask(
        "INSERT INTO out SELECT CASE WHEN n > 4 THEN 'hi' ELSE 'lo' END, iif(n IS NULL, 'none',"
        " n), n IS NOT DISTINCT FROM NULL FROM sale"
    ),
    setup=(SALE, ROWS, OUT),
)
selects.case(
    "LIKE, GLOB, BETWEEN, IN",
    ask(
        "SELECT 'Abc' LIKE 'a%', 'Abc' GLOB 'A*', 'a_c' LIKE 'a\\_c' ESCAPE '\\', 5 BETWEEN 1"
        " AND 5, NULL IN (1, NULL), 'ä' LIKE 'Ä'"
    ),
)
selects.case(
    "REGEXP and MATCH have no function",
    ask(
        fails("SELECT 'a' REGEXP 'b'", why="no such function: REGEXP"),
        fails("SELECT 'a' MATCH 'b'", why="unable to use function MATCH"),
    ),
)
selects.case(
    "an unknown function", ask(fails("SELECT nonesuch(1)", why="no such function: nonesuch"))
)
selects.case(
    "a wrong number of arguments",
    ask(fails("SELECT lower(1, 2)", why="wrong number of arguments to function lower()")),
)
selects.case(
    "misuse of an aggregate",
    ask(fails("SELECT id FROM sale WHERE count(*) > 1", why="misuse of aggregate")),
    setup=SALE,
)
selects.case(
    "an ambiguous column",
    ask(fails("SELECT id FROM sale a, sale b", why="ambiguous column name: id")),
    setup=SALE,
)
selects.case(
    "text functions",
    ask(
        "SELECT upper('aä'), length('日本'), substr('hello', -3, 2), replace('aXa', 'a', 'bb'),"
        " trim('  x '), hex('ä'), unhex('4142'), instr('hello', 'l'), char(65, 8364),"
        " unicode('€'), printf('%05d|%.3f|%s|%q', 42, 3.14159, 'x', 'it''s'), quote('it''s'),"
        " quote(x'00ff'), quote(1.5), concat_ws('-', 1, NULL, 'x'), zeroblob(3)"
    ),
)
selects.case(
    "number functions",
    ask(
        "INSERT INTO out SELECT round(2.5), round(-1.005, 2), abs(-3)",
        "INSERT INTO out SELECT 7 / 2, 7 % 3, -7 / 2",
        "INSERT INTO out SELECT sqrt(2), pi(), pow(2, 0.5)",
        "INSERT INTO out SELECT ln(10), exp(1), sin(1)",
        "INSERT INTO out SELECT 1 / 0, 1.0 / 0, 5 % 0",
        "INSERT INTO out SELECT 1 << 62, ~5, 6 & 3 | 8",
        "SELECT * FROM out",
    ),
    setup=OUT,
)
selects.case(
    "sums that overflow",
    ask(
        fails("SELECT sum(n) FROM big", why="integer overflow"),
        "SELECT total(n) FROM big",
        "SELECT 9223372036854775807 + 1, typeof(9223372036854775807 + 1)",
    ),
    setup=("CREATE TABLE big(n)", "INSERT INTO big VALUES(9223372036854775807),(1)"),
)
selects.case(
    "JSON functions",
    ask(
        "INSERT INTO out SELECT json_extract(j, '$.a[1]'), j -> 'b', j ->> '$.b.c' FROM (SELECT"
        ' \'{"a":[1,2],"b":{"c":"x"}}\' AS j)',
        "SELECT json('[1, 2 ]'), json_array(1,'x',NULL), json_object('k', json('[1]')),"
        " json_type('[1]'), json_valid('{'), json_set('{}', '$.a', 1), json_patch('{\"a\":1}',"
        " '{\"a\":null}')",
        'SELECT key, value, type, fullkey FROM json_each(\'{"a":1,"b":[2]}\')',
        "SELECT fullkey, atom FROM json_tree('[1,[2]]')",
        "SELECT * FROM out",
    ),
    setup=OUT,
)
selects.case(
    "JSON, made and aggregated in a write",
    ask(
        "INSERT INTO out SELECT json_group_array(n), json_group_object(id, shop), NULL FROM sale",
        "UPDATE out SET c = json_insert(a, '$[#]', 99)",
        "INSERT INTO out(a) SELECT value FROM out, json_each(out.a)",
        "SELECT * FROM out",
    ),
    setup=(SALE, ROWS, OUT),
)
selects.case(
    "JSONB in a table",
    ask(
        'INSERT INTO out(a) VALUES(jsonb(\'{"a":[1,2,{"b":3}]}\'))',
        "UPDATE out SET a = jsonb_set(a, '$.a[0]', 9)",
        "SELECT json(a), typeof(a) FROM out",
    ),
    setup=OUT,
)
selects.case(
    "malformed JSON",
    ask(
        fails("INSERT INTO out(a) VALUES(json('{'))", why="malformed JSON"),
        "SELECT count(*) FROM out",
    ),
    setup=OUT,
)
selects.case(
    "a CHECK with json_valid",
    ask("INSERT INTO doc VALUES('[]')", fails("INSERT INTO doc VALUES('[')", why="CHECK")),
    setup="CREATE TABLE doc(j CHECK(json_valid(j)))",
)
selects.case(
    "fixed dates are fixed",
    ask(
        "INSERT INTO out SELECT date('2024-02-28', '+2 days'), strftime('%Y %j %W',"
        " '2024-12-31'), unixepoch('2000-01-01')",
        "SELECT julianday('2000-01-01 12:00'), datetime(0, 'unixepoch'), time('12:34:56.789',"
        " 'subsec'), timediff('2024-03-01','2024-02-01'), date('nonsense')",
        "SELECT * FROM out",
    ),
    setup=OUT,
)
selects.case(
    "subqueries: scalar, EXISTS, correlated, row values",
    ask(
        "SELECT id, (SELECT count(*) FROM sale b WHERE b.shop = a.shop AND b.id < a.id) FROM"
        " sale a WHERE EXISTS (SELECT 1 FROM sale c WHERE c.n > a.n)",
        "DELETE FROM sale WHERE (day, shop) = ('2024-01-02', 'b')",
        "SELECT count(*) FROM sale WHERE (day, n) > ('2024-01-01', 6)",
    ),
    setup=(SALE, ROWS),
)
selects.case(
    "a double-quoted string is a string",
    ask('INSERT INTO out VALUES("text", "two words", "")', 'SELECT * FROM out WHERE a = "text"'),
    setup=OUT,
)
selects.case(
    "a double-quoted name is a name first",
    ask('SELECT "a" FROM out', 'UPDATE out SET a = "b"', "SELECT a FROM out"),
    setup=(OUT, "INSERT INTO out VALUES(1,2,3)"),
)
selects.case(
    "a double-quoted default and index",
    ask(
        'CREATE TABLE dq(a DEFAULT "x y", b CHECK(b <> "no"))',
        "INSERT INTO dq(b) VALUES('yes')",
        fails("INSERT INTO dq(b) VALUES('no')", why="CHECK"),
    ),
)
selects.case(
    "rowid order without ORDER BY",
    ask("SELECT rowid, a FROM out WHERE a > 0 LIMIT 2"),
    setup=(OUT, "INSERT INTO out(a) VALUES(3),(1),(2)"),
)
selects.case(
    "carray, dbstat and others do not hide in a read",
    ask(
        "SELECT name FROM pragma_table_info('sale')",
        "SELECT count(*) FROM pragma_index_list('sale')",
    ),
    setup=SALE,
)
selects.case(
    "a read-only request",
    ask("SELECT count(*) FROM sale", "SELECT max(n) FROM sale", kind="query"),
    setup=(SALE, ROWS),
)
selects.case(
    "execute with a SELECT between writes",
    ask(
        "INSERT INTO out(a) VALUES(1)",
        "SELECT a FROM out",
        "INSERT INTO out(a) VALUES(2)",
        kind="execute",
    ),
    setup=OUT,
)

THEMES = (selects,)
