"""The rules of the house that a program can check. Exceptions are listed here, with the reason;
one that is no longer needed fails as well. (Lines of at most 100 characters are the linter's.)"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
PARTNER_FROM_LINES = 50

LONG_MODULES: dict[str, str] = {
    "rsqlite/config.py": "one table: a setting a line or five",
    "rsqlite/node/engine.py": "the one place that knows all parts of a node; each is wired in it",
    "rsqlite/node/writer.py": "one request's life, from the queue to its answer",
    "rsqlite/statemachine/machine.py": "all that takes turns on the one writing connection",
    "rsqlite/storage/logstore.py": "one set of books for the ways in which a write gets durable",
    "rsqlite/testing/disk.py": "a whole file system, its faults included",
}
LONG_FUNCTIONS: dict[str, str] = {
    "tests/server/test_differential.py:odd_requests": "a table of requests, one a line",
}
TESTED_ELSEWHERE: dict[str, str] = {
    "rsqlite/aio.py": "names of others; tests/client/test_aio.py",
    "rsqlite/errors.py": "a hierarchy without logic; tests/server/test_answers.py walks all of it",
    "rsqlite/node/admission.py": "tests/node/test_upgrading.py: whole nodes on virtual time",
    "rsqlite/node/applier.py": "tests/node/test_engine.py: whole nodes on virtual time",
    "rsqlite/node/driver.py": "tests/node/test_engine.py",
    "rsqlite/node/loop.py": "tests/testing/test_loop.py holds it and its fake to one contract",
    "rsqlite/node/transfer.py": "tests/node/test_images.py: both sides on virtual time",
    "rsqlite/node/installer.py": "tests/node/test_images.py",
    "rsqlite/node/origin.py": "tests/node/test_images.py and test_content.py",
    "rsqlite/node/place.py": "tests/node/test_membership.py: whole nodes on virtual time",
    "rsqlite/node/reader.py": "tests/node/test_engine.py",
    "rsqlite/node/report.py": "tests/node/test_node.py",
    "rsqlite/node/status.py": "values without logic; tests/node/test_node.py takes one",
    "rsqlite/node/findings.py": "tests/node/test_content.py",
    "rsqlite/node/vacuums.py": "tests/node/test_vacuum.py: both sides on virtual time",
    "rsqlite/ports.py": "protocols without code",
    "rsqlite/request.py": "words without logic",
    "rsqlite/raft/dispatch.py": "tests/raft/test_core.py",
    "rsqlite/server/intake.py": "tests/server/test_connection.py",
    "rsqlite/testing/links.py": "tests/testing/test_network.py",
    "rsqlite/testing/engines.py": "tests/node/test_engine.py is made of it",
    "rsqlite/testing/nemesis.py": "tests/testing/test_simulator.py",
    "rsqlite/testing/simulate.py": "tests/testing/test_simulator.py",
    "rsqlite/testing/ending.py": "tests/testing/test_simulator.py: what is wrong is found",
}
TESTED_AS_A_WHOLE: dict[str, str] = {}
ENTRY_POINTS = {
    "rsqlite/__main__.py",
    "rsqlite/cli/main.py",
    "rsqlite/cli/serve.py",
    "rsqlite/testing/demo.py",
    "rsqlite/testing/simulate.py",
    "rsqlite/testing/plugin.py",
    "bench/__main__.py",
}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
MARKERS = re.compile(
    r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|break" + r"point\(|^<{7} |^>{7} "
)
UNFINISHED = re.compile(r"NotImplemented" + r"Error|import pdb")
MACHINE_PATHS = re.compile(r"(?<![\w.~/$}-])/(?:work|root|home|Users|private)/|/tmp" + r"/\w")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ".cfg", ""}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def text_files() -> Iterator[Path]:
    for folder in ("rsqlite", "client", "bench", "tests", "docker", "docs", ".ci"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts:
                yield path
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in TEXT_SUFFIXES and path.name != ".git":
            yield path


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def offences(rule: re.Pattern[str], paths: Iterator[Path] | list[Path]) -> list[str]:
    return [
        f"{name_of(path)}:{number}: {line.rstrip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if rule.search(line)
    ]


def test_a_long_module_is_listed_with_its_reason() -> None:
    long = {
        name_of(path)
        for path in python_files("rsqlite", "client", "bench")
        if len(path.read_text(encoding="utf-8").splitlines()) > MODULE_LINES_MAX
    }
    assert long == set(LONG_MODULES)
    assert all(LONG_MODULES.values())


def test_a_long_function_is_listed_with_its_reason() -> None:
    long = set()
    for path in python_files("rsqlite", "client", "bench", "tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    long.add(f"{name_of(path)}:{node.name}")
    assert long == set(LONG_FUNCTIONS)
    assert all(LONG_FUNCTIONS.values())


def partner_of(name: str) -> str:
    """Where the tests of a module stand: tests/ has the same names as the tree."""
    folder, _, file = name.rpartition("/")
    folder = re.sub(r"^(rsqlite|client/rsqlite_client)/?", "", folder)
    if name.startswith("client/"):
        folder = f"client/{folder}".rstrip("/")
    parts = ["tests", *filter(None, [folder]), f"test_{file}"]
    return "/".join(parts)


def test_a_module_of_some_size_has_a_test_partner() -> None:
    alone = {
        name_of(path)
        for path in python_files("rsqlite", "client", "bench")
        if path.name not in ("__init__.py", "__main__.py")
        and len(path.read_text(encoding="utf-8").splitlines()) > PARTNER_FROM_LINES
        and not (ROOT / partner_of(name_of(path))).exists()
    }
    for folder in TESTED_AS_A_WHOLE:
        inside = {name for name in alone if name.startswith(folder)}
        assert inside, f"{folder} needs no exception any more"
        alone -= inside
    assert alone == set(TESTED_ELSEWHERE)


def test_no_markers_are_left() -> None:
    assert not offences(MARKERS, text_files())
    assert not offences(UNFINISHED, python_files("rsqlite", "client", "bench"))


def test_no_path_of_a_machine_is_left() -> None:
    assert not offences(MACHINE_PATHS, text_files())


def test_a_file_is_named_after_what_it_holds() -> None:
    files = python_files("rsqlite", "client", "bench")
    assert not [name_of(path) for path in files if path.stem in BANNED_NAMES]


def test_folders_of_tests_and_tools_are_no_packages() -> None:
    # `import client` and `import rsqlite_client` would give two copies of the package.
    assert not [
        folder for folder in ("client", "tests") if (ROOT / folder / "__init__.py").exists()
    ]


def imported_modules() -> set[str]:
    """Dotted names that some file of ours imports, `from a import b` as both a and a.b."""
    names: set[str] = set()
    for path in python_files("rsqlite", "client", "bench", "tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_is_used_by_another() -> None:
    imported = imported_modules()
    text = (ROOT / "rsqlite" / "__init__.py").read_text(encoding="utf-8")
    dead = []
    for path in python_files("rsqlite", "client", "bench"):
        name = name_of(path)
        dotted = name.removeprefix("client/").removesuffix(".py").replace("/", ".")
        if path.name == "__init__.py" or name in ENTRY_POINTS or dotted in imported:
            continue
        if dotted not in text:
            dead.append(name)
    assert not dead


@pytest.mark.parametrize(
    ("name", "partner"),
    [
        ("rsqlite/config.py", "tests/test_config.py"),
        ("rsqlite/raft/core.py", "tests/raft/test_core.py"),
        ("client/rsqlite_client/dbapi.py", "tests/client/test_dbapi.py"),
        ("client/rsqlite_client/django/base.py", "tests/client/django/test_base.py"),
        ("bench/floors.py", "tests/bench/test_floors.py"),
    ],
)
def test_partners_have_the_names_of_the_tree(name: str, partner: str) -> None:
    assert partner_of(name) == partner
