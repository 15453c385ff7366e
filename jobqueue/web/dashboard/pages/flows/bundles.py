"""The bundles, and one with its graph."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.tasks.options import check_id
from jobqueue.web.dashboard.access.mounted import base
from jobqueue.web.dashboard.acting.form import id_of, word_of
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.flows.bundles import BundleRow, read_bundle, read_bundles
from jobqueue.web.dashboard.showing.graph import graph
from jobqueue.web.dashboard.site import Site


async def bundles(site: Site, request: Request) -> Response:
    """The newest first; those under way alone, or by name."""
    params = request.query_params
    unfinished, name = "unfinished" in params, word_of(params, "name")
    after = id_of(params, "after")
    seen = await read_bundles(view_of(site, request), unfinished=unfinished, name=name, after=after)
    return sheet(
        site, request, "bundles.html", active="bundles", title="Bundles", seen=seen, unfinished=unfinished, name=name,
        first=after is None,
    )  # fmt: skip


async def bundle(site: Site, request: Request) -> Response:
    """One, with its graph."""
    found = await read_bundle(view_of(site, request), check_id(request.path_params["id"]))
    row = BundleRow.of(found.bundle)
    drawn = graph(found.groups, base(request.scope), f"the graph of {row.name}")
    return sheet(
        site, request, "bundle.html", active="bundles", title=row.name, seen=row, drawn=drawn, text=found.text,
        mermaid=found.mermaid,
    )  # fmt: skip
