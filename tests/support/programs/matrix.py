"""`make matrix`: the whole suite in each supported Python that this machine has, each in an environment of its own."""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
VERSIONS = ("3.11", "3.12", "3.13")


def main() -> int:
    wanted = arguments()
    found = {version: python for version in VERSIONS if (python := find_python(version))}
    for version in VERSIONS:
        print(f"Python {version}: {found.get(version, 'not on this machine')}")
    if len(found) < wanted.at_least:
        print(f"found {len(found)} of at least {wanted.at_least}", file=sys.stderr)
        return 1
    verdicts = {version: run_suite(version, python, wanted) for version, python in found.items()}
    for version, passed in verdicts.items():
        print(f"Python {version}: {'passed' if passed else 'FAILED'}")
    return 0 if all(verdicts.values()) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-least", type=int, default=1, help="how many Pythons must be found")
    parser.add_argument("--workers", default="4", help="parallel test processes")
    parser.add_argument("pytest", nargs="*", help="further arguments for pytest")
    return parser.parse_args()


def find_python(version: str) -> str | None:
    """Return an interpreter of this version: on the path, or among those that pyenv has installed."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted((pyenv / "versions").glob(f"{version}.*/bin/python"), reverse=True)
    candidates = [f"python{version}", *map(str, installed)]
    return next((candidate for candidate in candidates if runs_as(candidate, version)), None)


def runs_as(python: str, version: str) -> bool:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.strip() == version


def run_suite(version: str, python: str, wanted: argparse.Namespace) -> bool:
    print(f"\n== Python {version}", flush=True)
    environment = ROOT / ".venvs" / version
    try:
        install(python, environment)
    except subprocess.CalledProcessError:
        return False
    suite = [str(environment / "bin" / "python"), "-m", "pytest", "-n", wanted.workers, "--dist", "loadfile"]
    return subprocess.run([*suite, *wanted.pytest], cwd=ROOT, check=False).returncode == 0


def install(python: str, environment: Path) -> None:
    """Make the environment and install what pyproject.toml asks for, unless that is done."""
    project = (ROOT / "pyproject.toml").read_bytes()
    stamp, wanted = environment / ".installed", hashlib.sha256(project).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    subprocess.run([python, "-m", "venv", environment], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "-e", ".[dev]"], cwd=ROOT, check=True)
    stamp.write_text(wanted)


if __name__ == "__main__":
    sys.exit(main())
