"""What the documents name exists, what exists is documented, and what they show runs.

`python tests/test_docs.py --rewrite` renews the generated parts.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from rsqlite_client.dsn import URL_VARIABLE

from rsqlite.cli.main import main as rsqlite_command
from rsqlite.cli.options import CONFIG_FLAG, ENVIRONMENT_PREFIX, configure, options
from rsqlite.cli.rqlited_flags import FLAGS
from rsqlite.cli.serve import SWITCHES, help_text
from rsqlite.server.app import ROUTES
from rsqlite.server.flags import Flags
from rsqlite.testing.cluster import ProcessCluster, free_ports
from rsqlite.testing.process import ProcessNode

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
RSQLITED = ROOT / "docs" / "rsqlited.md"
HTTP = ROOT / "docs" / "http.md"
README = ROOT / "README.md"
EMBEDDING = ROOT / "docs" / "embedding.md"
CLIENT = ROOT / "docs" / "client.md"
GENERATED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
FLAG_NAMES = {
    *(one.flag for one in options()),
    *FLAGS,
    *SWITCHES,
    CONFIG_FLAG,
}


def generated(part: str) -> str:
    """A part of docs/rsqlited.md that is made from the tables of the code."""
    if part == "help":
        return f"```\n{help_text()}\n```\n"
    kinds: dict[str, list[str]] = {"effect": [], "renamed": [], "not yet": []}
    for name, flag in FLAGS.items():
        if flag.without_effect:
            kinds["effect"].append(f"`-{name}` ({flag.without_effect})")
        elif flag.renamed:
            kinds["renamed"].append(f"`-{name}` is `-{flag.renamed}` here")
        else:
            kinds["not yet"].append(f"`-{name}`")
    return (
        f"* Accepted without effect: {', '.join(kinds['effect'])}.\n"
        f"* Another name: {', '.join(kinds['renamed'])}.\n"
        "* Not there yet, and refused unless they are given rqlited's own default:"
        f" {', '.join(kinds['not yet'])}.\n"
    )


def renewed(text: str) -> str:
    return GENERATED.sub(lambda match: match[1] + generated(match[2]) + match[3], text)


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a document in a language."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def code_words(path: Path) -> list[str]:
    """What stands in backticks or in fenced blocks."""
    text = path.read_text(encoding="utf-8")
    return [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"```.*?```", text, re.DOTALL)]


def test_the_generated_parts_are_current() -> None:
    text = RSQLITED.read_text(encoding="utf-8")
    assert len(GENERATED.findall(text)) == 2
    assert renewed(text) == text, "run make fix"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_flags_and_variables_that_a_document_names_exist(path: Path) -> None:
    for words in code_words(path):
        named = re.findall(r"(?<![\w-])-([a-z]+(?:-[a-z]+)+)", words)
        assert set(named) <= FLAG_NAMES, words
        words = words.replace(URL_VARIABLE, "")  # the client's, not a node's
        for variable in re.findall(rf"\b{ENVIRONMENT_PREFIX}([A-Z_]+)", words):
            assert variable.lower().replace("_", "-") in FLAG_NAMES, variable


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_a_document_names_exist(path: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert isinstance(rsqlite_command, click.Group)
    for words in code_words(path):
        for target in re.findall(r"^make (?:[A-Z]+=\S+ )*([a-z]+)", words, re.MULTILINE):
            assert target in targets, words
        for command in re.findall(r"^rsqlite ([a-z]+)", words, re.MULTILINE):
            assert command in rsqlite_command.commands, words


def test_every_target_of_the_makefile_is_documented() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    phony = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split()
    for target in set(phony) - {"help", "venv"}:
        assert f"make {target}" in contributing, target


def test_every_endpoint_is_documented_and_no_other() -> None:
    text = HTTP.read_text(encoding="utf-8")
    named = set(re.findall(r"`(/[a-z/]+)`", text))
    assert named == {route.path for route in ROUTES} - {"/"}


def test_every_parameter_is_documented_and_no_other() -> None:
    table = HTTP.read_text(encoding="utf-8").partition("| parameter |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row[:60])}
    fields = {one.name.removesuffix("_s") for one in dataclasses.fields(Flags)}
    assert {name for name in named if name in fields} | {"queue"} == fields
    first_cells = {name for row in table.splitlines()[2:] for name in row.split("|")[1].split(", ")}
    assert {name.strip("` ") for name in first_cells} <= fields


def test_the_config_file_of_the_documents_is_one(tmp_path: Path) -> None:
    (content,) = blocks(RSQLITED, "toml")
    assert tomllib.loads(content)
    file = tmp_path / "node.toml"
    file.write_text(content)
    assert configure({CONFIG_FLAG: str(file)}, {}).problems == ()


CLIENT_PROGRAMS = blocks(CLIENT, "python")
PROGRAMS = [
    (blocks(README, "python")[0], "2 Mary\n", []),
    *zip(
        CLIENT_PROGRAMS[1:],
        ["[('tea',)]\n", "(1,) (2,)\n", "Fiona\n[(1,)]\n"],
        [[], [], []],
        strict=True,
    ),
    *zip(
        blocks(EMBEDDING, "python"),
        ["[(100,)]\nSQLITE_CONSTRAINT_PRIMARYKEY\n", "[(1,)]\n", "serving\n"],
        [["accounts"], ["data0", "data1", "data2"], ["served"]],
        strict=True,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("program", "printed", "left"), PROGRAMS)
def test_the_python_of_the_documents_runs(
    tmp_path: Path, program: str, printed: str, left: list[str]
) -> None:
    for port in re.findall(r"127.0.0.1:(17\d+)", program):
        program = program.replace(port, str(free_ports(1)[0]))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == printed
    assert sorted(os.listdir(tmp_path)) == left


@pytest.mark.slow
def test_the_first_program_of_the_client_runs_on_a_cluster(
    rsqlite_node: ProcessNode, tmp_path: Path
) -> None:
    hosts = "http://127.0.0.1:4001,127.0.0.1:4011,127.0.0.1:4021"
    assert hosts in CLIENT_PROGRAMS[0]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", CLIENT_PROGRAMS[0].replace(hosts, rsqlite_node.url)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "1 1\nSQLITE_CONSTRAINT_UNIQUE\nFiona\nIain\nMary\n"


@pytest.mark.slow
def test_the_console_of_the_readme_shows_what_happens(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("NOT RUN: curl is not on this machine")
    (console,) = blocks(README, "console")
    with ProcessCluster(1, tmp_path) as cluster:
        address = cluster.nodes[0].http_addr
        for line in console.splitlines():
            if line.startswith("$ "):
                command = line[2:].replace("localhost:4001", address)
                result = subprocess.run(
                    ["sh", "-c", command], capture_output=True, text=True, check=False
                )
                assert result.returncode == 0, (command, result.stderr)
                shown = result.stdout.strip()
            else:
                assert shown == line


if __name__ == "__main__":
    assert sys.argv[1:] == ["--rewrite"], __doc__
    RSQLITED.write_text(renewed(RSQLITED.read_text(encoding="utf-8")), encoding="utf-8")
