"""`bundles graph`: draw which jobs of a bundle come after which."""

import asyncio
from dataclasses import asdict

from jobqueue.bundles.bundles import Bundles
from jobqueue.bundles.graph import BundleGraph
from jobqueue.cli.bundles.look import counted, state_of
from jobqueue.cli.bundles.meant import ask_one
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, Refusal
from jobqueue.cli.terminal.output import write, write_drawing, write_json


def draw_bundle(place: Place, part: str, *, mermaid: bool, as_json: bool) -> ExitCode:
    """As text for a person, as Mermaid for a page, or as JSON. Raises BundleNotFound, Refusal."""
    if mermaid and as_json:
        raise Refusal("--mermaid and --json are two formats: give one", ExitCode.USAGE)
    graph = asyncio.run(ask_one(place, part, Bundles.graph))
    if as_json:
        write_json(_document(graph))
    elif mermaid:
        for line in graph.mermaid.splitlines():
            write(line)
    else:
        write(f"bundle {graph.bundle.id}  {state_of(graph.bundle)}")
        write(f"{graph.bundle.name}: {counted(graph.bundle)}")
        write("")
        write_drawing(graph.draw)
    return ExitCode.OK


def _document(graph: BundleGraph) -> dict[str, object]:
    return {
        "id": graph.bundle.id,
        "jobs": [asdict(job) for job in graph.jobs],
        "unlinked": [asdict(some) for some in graph.unlinked],
    }
