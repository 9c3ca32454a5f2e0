"""What can be imported, and what an import costs."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import rsqlite_client

import rsqlite

ROOT = Path(__file__).parent.parent


def modules_of(package: str) -> list[str]:
    path = importlib.import_module(package).__path__
    return [package, *(one.name for one in pkgutil.walk_packages(path, f"{package}."))]


@pytest.mark.parametrize("name", [*modules_of("rsqlite"), *modules_of("rsqlite_client")])
def test_what_a_module_exports_is_there(name: str) -> None:
    if name.endswith("__main__"):
        pytest.skip("runs the command when imported")
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    for one in exported:
        assert hasattr(module, one), one


def test_importing_rsqlite_loads_nothing_else_until_a_name_is_used() -> None:
    program = (
        "import sys; before = set(sys.modules); import rsqlite;"
        "print(*sorted(m for m in set(sys.modules) - before if m.partition('.')[0] in"
        " ('rsqlite', 'rsqlite_client', 'apsw', 'aiohttp', 'asyncio', 'click', 'msgspec')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout.split() == ["rsqlite"]


def test_to_connect_to_hosts_loads_neither_the_server_nor_an_event_loop() -> None:
    program = (
        "import sys, rsqlite; rsqlite.connect('http://localhost:1').close();"
        "print(*sorted({m.partition('.')[0] for m in sys.modules} &"
        " {'aiohttp', 'apsw', 'asyncio', 'click', 'msgspec', 'orjson', 'uvloop'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout.split() == []


def test_the_asynchronous_client_is_reached_from_the_facade() -> None:
    assert rsqlite.aio.connect.__name__ == "connect"
    assert rsqlite.aio.IntegrityError is rsqlite.IntegrityError


def test_the_facade_lists_what_it_gives() -> None:
    assert dir(rsqlite) == sorted(rsqlite.__all__)
    assert set(rsqlite_client.__all__) <= set(rsqlite.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(rsqlite, "nothing")  # noqa: B009 - the point is the missing name


def test_the_client_is_importable() -> None:
    assert rsqlite_client.__doc__


def test_commands_point_at_functions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["scripts"]) == {"rsqlite", "rsqlited"}
    for target in project["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_both_packages_are_typed() -> None:
    assert (ROOT / "rsqlite" / "py.typed").exists()
    assert (ROOT / "client" / "rsqlite_client" / "py.typed").exists()
