"""A node that cannot start says so to whoever asks, and to nobody afterwards."""

from __future__ import annotations

import logging

import aiohttp
import pytest

from rsqlite.config import Settings
from rsqlite.server.refusing import refusing
from rsqlite.testing.cluster import free_ports


def settings_at(port: int) -> Settings:
    return Settings(http_addr=f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/readyz"), ("GET", "/status"), ("POST", "/db/execute"), ("POST", "/nowhere")],
)
async def test_everything_is_refused_with_the_reason(method: str, path: str) -> None:
    (port,) = free_ports(1)
    async with refusing(settings_at(port), "it waits for room"), aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{port}{path}"
        body = b"x" * 1_000_000 if method == "POST" else None
        async with client.request(method, url, data=body) as answer:
            assert answer.status == 503
            assert await answer.text() == "it waits for room\n"
            assert answer.headers["Rsqlite-Write"] == "not-applied"
            assert answer.headers["Retry-After"] == "5"
            assert answer.headers["Connection"] == "close"


async def test_the_address_is_free_again_afterwards() -> None:
    (port,) = free_ports(1)
    async with refusing(settings_at(port), "first"):
        pass
    async with (
        refusing(settings_at(port), "second"),
        aiohttp.request("GET", f"http://127.0.0.1:{port}/") as answer,
    ):
        assert await answer.text() == "second\n"


async def test_an_address_that_is_in_use_is_told_in_the_log_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (port,) = free_ports(1)
    with caplog.at_level(logging.WARNING):
        async with refusing(settings_at(port), "one"), refusing(settings_at(port), "two"):
            pass
    assert "cannot say over HTTP that this node waits" in caplog.text


async def test_without_an_http_address_nothing_listens() -> None:
    async with refusing(Settings(http_addr=""), "nobody asks"):
        pass
