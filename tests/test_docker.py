"""The image and the compose file name only what there is."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from rsqlite.cli.options import configure, options
from rsqlite.config import Settings
from rsqlite.testing.cluster import ProcessCluster, ProcessNode, wait_until

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker" / "compose.yaml").read_text()


def variables(text: str, separator: str) -> dict[str, str]:
    pattern = rf'(RSQLITE_\w+){separator}"?([^"\s\\]+)"?'
    return dict(re.findall(pattern, text))


@pytest.mark.parametrize("text", [DOCKERFILE, COMPOSE], ids=["Dockerfile", "compose.yaml"])
def test_every_variable_is_a_setting(text: str) -> None:
    known = {"RSQLITE_" + one.flag.replace("-", "_").upper() for one in options()}
    found = set(re.findall(r"RSQLITE_\w+", text)) - {"RSQLITE_NODE_ID"}
    assert found
    assert found <= known


def test_the_settings_of_the_image_and_of_a_node_are_sound() -> None:
    alone = variables(DOCKERFILE, "=")
    for environment in (alone, {**alone, **variables(COMPOSE, ": ")}):
        configuration = configure({}, environment)
        assert configuration.problems == ()
        assert isinstance(configuration.settings, Settings)
    assert configuration.settings.bootstrap_expect == 3


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored


def test_the_image_runs_as_nobody_of_importance_and_says_whether_it_is_well() -> None:
    assert re.search(r"^USER rsqlite$", DOCKERFILE, re.MULTILINE)
    assert "/readyz" in DOCKERFILE
    assert "HEALTHCHECK" in DOCKERFILE


@pytest.mark.slow
def test_the_healthcheck_says_whether_a_node_is_ready(tmp_path: Path) -> None:
    (words,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    with ProcessCluster(3, tmp_path) as cluster:

        def is_well(node: ProcessNode) -> bool:
            here = f"localhost:{node.http_port}"
            command = [word.replace("localhost:4001", here) for word in json.loads(words)]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        first, second, third = cluster.nodes
        assert all(is_well(node) for node in cluster.nodes)
        first.kill()
        second.kill()
        assert not is_well(first)
        wait_until(lambda: not is_well(third), 30.0, third.log_tail)  # it has no leader
        second.start()
        wait_until(lambda: is_well(second) and is_well(third), 30.0, third.log_tail)
