"""Start, stop, addresses, loops."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace

import pytest
import uvloop

from rsqlite.config import Settings
from rsqlite.server.app import HttpServer, find_route, join_address, split_address
from tests.server.conftest import Bench, Start, message, read_answer
from tests.server.fake_node import FakeNode


async def test_the_address_names_the_real_port(start: Start) -> None:
    bench = await start(http_addr="127.0.0.1:0")
    assert bench.port != 0
    assert bench.server.advertised == bench.server.address


async def test_an_advertised_address_is_what_clients_are_told(start: Start) -> None:
    bench = await start(http_adv_addr="db.example:80")
    got = await bench.post("/db/query", ["SELECT 1"])
    assert got.headers["x-rqlite-served-by"] == "db.example:80"


async def test_an_address_in_use_is_the_systems_error(start: Start) -> None:
    bench = await start()
    server = HttpServer()
    with pytest.raises(OSError, match="address already in use") as caught:
        await server.start(FakeNode(), replace(Settings(), http_addr=bench.server.address))
    assert caught.value.errno == errno.EADDRINUSE
    await server.stop()


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", "a:b", "a:70000", "a:-1"])
async def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        await HttpServer().start(FakeNode(), replace(Settings(), http_addr=address))


def test_addresses() -> None:
    assert split_address("[::1]:4001") == ("::1", 4001)
    assert split_address(":4001") == ("", 4001)
    assert join_address("::1", 4001) == "[::1]:4001"
    assert join_address("127.0.0.1", 1) == "127.0.0.1:1"


async def test_a_stopped_server_can_be_stopped_again(start: Start) -> None:
    bench = await start()
    await bench.server.stop()
    await bench.server.stop()


def test_routes() -> None:
    assert find_route("/nothing") is None
    assert find_route("/leader/x") is None
    route = find_route("/db/query?")
    assert route is not None
    assert route.path == "/db/query"


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["on", "off"])
def test_it_works_on_uvloop(shortcut: str) -> None:
    async def main() -> None:
        server = HttpServer()
        node = FakeNode()
        settings = Settings(http_addr="127.0.0.1:0", http_shortcut=shortcut)
        await server.start(node, settings)
        bench = Bench(server, node)
        await bench.post("/db/execute", ["CREATE TABLE t(a)"])
        reader, writer = await bench.connect()
        data = message("POST", "/db/execute", ["INSERT INTO t VALUES(zeroblob(3000000))"])
        writer.write(data * 3 + message("POST", "/db/query", ["SELECT a FROM t"]))
        for number in range(3):
            got = await read_answer(reader)
            assert got.json["results"] == [{"last_insert_id": number + 1, "rows_affected": 1}]
        assert len((await read_answer(reader)).body) > 9_000_000
        for one in bench.writers:
            one.close()
        await server.stop()
        assert server.core.budget.used == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
