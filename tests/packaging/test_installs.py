"""What users install: the wheel, a wheel made from the sdist, an editable checkout, each in an empty environment."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from hatchling.build import get_requires_for_build_editable
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PIP = [sys.executable, "-m", "pip"]
INSTALL = ["install", "--quiet", "--disable-pip-version-check", "--no-compile"]
KINDS = ("wheel", "sdist", "editable")

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.timeout(300),  # three builds, and an installation with all dependencies
]


@dataclass(frozen=True)
class Installation:
    """An environment that has jobqueue and its dependencies, nothing else."""

    python: Path
    away: Path

    def run(self, *arguments: str) -> str:
        """Run Python there, from a folder away from the checkout; return what it prints."""
        answer = subprocess.run(
            [self.python, *arguments],
            cwd=self.away,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == answer.returncode, f"{arguments} ended with {answer.returncode}:\n{answer.stdout}{answer.stderr}"
        return answer.stdout


@dataclass(frozen=True)
class Built:
    """What was built, and what was installed from it."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path
    installations: dict[str, Installation]


def clean_environment() -> dict[str, str]:
    """Return our environment without what would lead Python or jobqueue back to the checkout."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JOBQUEUE_", "VIRTUAL_ENV"))
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build everything once and install the three kinds at the same time."""
    folder = tmp_path_factory.mktemp("packaging")
    wheel = build("wheel", ROOT, folder / "from-checkout", "*.whl")
    sdist = build("sdist", ROOT, folder / "sdist", "*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    wheel_of_sdist = build("wheel", unpacked, folder / "from-sdist", "*.whl")

    dependencies = link(declared_by(wheel), folder / "dependencies")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    backend = link([*declared, *get_requires_for_build_editable()], folder / "backend")
    sources = {"wheel": [str(wheel)], "sdist": [str(wheel_of_sdist)], "editable": ["-e", str(ROOT)]}
    with ThreadPoolExecutor(len(sources)) as pool:
        installed = pool.map(lambda kind: install(folder / kind, sources[kind], backend, dependencies), KINDS)
        installations = dict(zip(KINDS, installed, strict=True))
    return Built(wheel, sdist, wheel_of_sdist, installations)


def build(kind: str, project: Path, output: Path, pattern: str) -> Path:
    command([sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(output), str(project)])
    (result,) = output.glob(pattern)
    return result


def link(asked: list[str], folder: Path) -> Path:
    """A folder with these packages and what they ask for, and nothing else: those that are installed here, linked.

    For pip to fetch and unpack them took more than all else.
    """
    folder.mkdir()
    waiting = [Requirement(line) for line in asked]
    while waiting:
        requirement = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = distribution(requirement.name)
        assert requirement.specifier.contains(found.version, prereleases=True), f"{requirement}, not {found.version}"
        tops = {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}
        assert tops, f"no files of {requirement.name}"
        if not any((folder / top).exists() for top in tops):
            for top in tops:
                (folder / top).symlink_to(Path(str(found.locate_file(top))))
            waiting += [Requirement(line) for line in found.requires or []]
    return folder


def install(environment: Path, what: list[str], backend: Path, dependencies: Path) -> Installation:
    """Make an environment with no package at all, not even pip, and install with the pip that runs the tests.

    A build there sees what it asks for and nothing else, as in an isolated one, for which pip fetches that each time.
    """
    command([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    python = environment / "bin" / "python"
    (packages,) = environment.glob("lib/python*/site-packages")
    seen = {"PYTHONPATH": str(backend)}
    command([*PIP, "--python", str(python), *INSTALL, "--no-deps", "--no-build-isolation", *what], **seen)
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    away = environment / "away"
    away.mkdir()
    return Installation(python, away)


def command(arguments: list[str], **variables: str) -> None:
    answer = subprocess.run(arguments, env=clean_environment() | variables, capture_output=True, text=True, check=False)
    assert 0 == answer.returncode, f"{arguments} failed:\n{answer.stdout}{answer.stderr}"


@pytest.fixture(params=KINDS)
def installation(built: Built, request: pytest.FixtureRequest) -> Installation:
    """Each kind of installation in turn."""
    return built.installations[request.param]


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def declared_by(wheel: Path) -> list[str]:
    """What it asks for."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    return [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]


def test_the_wheel_carries_all_sql_inside_the_package(built: Built) -> None:
    """The wheel has every file of schema/ as jobqueue/_schema, the mark of types, and one top-level package."""
    files = contents(built.wheel)
    expected = {
        f"jobqueue/_schema/{path.relative_to(ROOT / 'schema').as_posix()}" for path in (ROOT / "schema").rglob("*.sql")
    }

    assert len(expected) >= 3, "no schema: wrong place?"
    assert expected <= files
    assert "jobqueue/py.typed" in files
    assert {"jobqueue"} == {name.partition("/")[0] for name in files if ".dist-info/" not in name}


def test_the_wheel_names_the_plugin_of_pytest(built: Built) -> None:
    """pytest finds the fixtures of the test kit by itself."""
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        points = archive.read(name).decode()

    assert "[pytest11]\njobqueue.testing.plugin = jobqueue.testing.plugin" in points


def test_the_sdist_makes_the_same_wheel(built: Built) -> None:
    """Who builds from the sdist gets the same files."""
    assert contents(built.wheel) == contents(built.wheel_of_sdist)


def test_the_sdist_has_what_is_needed_to_test_it(built: Built) -> None:
    """The sdist has sources, SQL, tests and the licence, and nothing that tools left behind."""
    with tarfile.open(built.sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}

    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "Makefile", "tests/conftest.py"} <= files
    assert any(name.startswith("schema/migrations/") for name in files)
    assert not [name for name in files if "__pycache__" in name or name.startswith((".venv", "dist"))]


def test_the_import_comes_from_the_environment(built: Built, installation: Installation) -> None:
    """`import jobqueue` works with nothing but the declared dependencies, and finds its version. (S1-24)"""
    version, declared = installation.run(
        "-c",
        "import jobqueue, importlib.metadata as metadata\n"
        "print(metadata.version('jobqueue'))\n"
        "print(*metadata.metadata('jobqueue').get_all('Requires-Dist'), sep='; ')",
    ).splitlines()

    assert "0.1.0" == version
    assert "; ".join(declared_by(built.wheel)) == declared  # those were there, for all three


def test_statements_and_migrations_are_found(installation: Installation) -> None:
    """The SQL is found, wherever the package lies."""
    found = installation.run(
        "-c",
        "from jobqueue.store.schema.migrate import migrations\n"
        "from jobqueue.store.schema.statements import statement\n"
        "print(len(list(migrations())), bool(statement('insert_jobs')))",
    )

    count, statement = found.split()
    assert len(list((ROOT / "schema" / "migrations").glob("*.sql"))) == int(count)
    assert "True" == statement


def test_the_command_line_runs(installation: Installation) -> None:
    """`python -m jobqueue` and the console script both show their help."""
    script = installation.python.with_name("jobqueue")
    assert script.exists()

    assert "worker" in installation.run("-m", "jobqueue", "--help")
    assert "worker" in installation.run(str(script), "--help")


def test_migrate_sql_prints_the_schema(installation: Installation) -> None:
    """`python -m jobqueue migrate sql` needs no database: it prints what would be run."""
    assert "create table" in installation.run("-m", "jobqueue", "migrate", "sql").lower()


def test_no_other_package_is_installed(installation: Installation) -> None:
    """There is no top-level package `schema`, `tests` or `examples` among the installed ones."""
    folder = Path(installation.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())

    assert folder.is_dir()
    assert [] == [name for name in ("schema", "tests", "examples") if (folder / name).exists()]
