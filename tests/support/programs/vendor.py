"""`make vendor`: fetch the two scripts that the dashboard carries, by pinned version and integrity. Needs npm.

They are committed, so that no build and no install needs npm; `vendor.lock` says what they are, and a test compares.
"""

import base64
import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TypedDict

HERE = Path(__file__).parents[3] / "jobqueue" / "web" / "dashboard" / "static" / "vendor"


class Package(TypedDict):
    """What to fetch."""

    name: str
    version: str
    license: str
    integrity: str
    files: dict[str, str]
    """Their path, and ours."""


PACKAGES: tuple[Package, ...] = (
    {
        "name": "htmx.org",
        "version": "4.0.1",
        "license": "0BSD",
        "integrity": "sha512-oF7JgXhDW9UXCy/k1ZYFUQgzu/rm19ORWPSPNL91vPluB2PB9+MV55tyQdH/w7o2EAbTYUG5SDW1R60mdkdqGg==",
        "files": {"dist/htmx.min.js": "htmx.min.js", "LICENSE": "htmx.LICENSE.txt"},
    },
    {
        "name": "uplot",
        "version": "1.6.32",
        "license": "MIT",
        "integrity": "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        "files": {
            "dist/uPlot.iife.min.js": "uPlot.iife.min.js",
            "dist/uPlot.min.css": "uPlot.min.css",
            "LICENSE": "uPlot.LICENSE.txt",
        },
    },
)


def fetch(package: Package, into: Path) -> dict[str, bytes]:
    """The wanted files of a package, by the name that they have here. Raises SystemExit if it is another one."""
    spec = f"{package['name']}@{package['version']}"
    subprocess.run(["npm", "pack", "--silent", spec], cwd=into, check=True, stdout=subprocess.DEVNULL)
    (archive,) = into.glob("*.tgz")
    mark = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if mark != package["integrity"]:
        raise SystemExit(f"{spec} is not what it was: {mark}")
    files: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for theirs, ours in package["files"].items():
            member = tar.extractfile(f"package/{theirs}")
            if member is None:
                raise SystemExit(f"{spec} has no {theirs}")
            files[ours] = member.read()
    return files


def main() -> None:
    """Write the files and the lock."""
    lock = []
    for package in PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            files = fetch(package, Path(folder))
        for name, content in files.items():
            (HERE / name).write_bytes(content)
        marks = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
        lock.append({**package, "files": marks})
        print(f"{package['name']} {package['version']}")
    (HERE / "vendor.lock").write_text(json.dumps(lock, indent=2) + "\n")


if __name__ == "__main__":
    main()
