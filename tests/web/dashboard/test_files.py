"""The files that pages need: kept for ever by browsers, of the right type, and none but those."""

import re
from urllib.parse import unquote

import pytest

from jobqueue import App
from jobqueue.web import create_app
from tests.web.dashboard.knocking import knock
from tests.web.dashboard.visiting import READER, visiting

APP = App("postgresql://nowhere.invalid/none")


async def test_what_a_page_names_is_served_for_ever() -> None:
    """Each under the mark of what is in it, with its type."""
    kinds = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
    async with visiting(APP, READER) as client:
        named = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', (await client.get("/nowhere")).text))
        assert 5 <= len(named)
        for path in named:
            answer = await client.get(path)
            assert 200 == answer.status_code, path
            assert kinds[path.rpartition(".")[2]] == answer.headers["content-type"]
            assert "public, max-age=31536000, immutable" == answer.headers["cache-control"]
            assert "nosniff" == answer.headers["x-content-type-options"]
            assert b"" == (await client.head(path)).content


@pytest.mark.parametrize(
    "path",
    ["/static/0/site.css", "/static/{mark}/nothing.css", "/static/{mark}/../create.py", "/static/site.css",
     "/static/{mark}/%2e%2e/create.py", "/static/{mark}/..%2fcreate.py", "/static/{mark}//etc/passwd",
     "/static/{mark}/vendor", "/static/{mark}/", "/static/{mark}/site.css%00", "/static/{mark}/vendor/../site.css",
     "/static/{mark}/../templates/sheet.html"],
)  # fmt: skip
async def test_nothing_else_is(path: str) -> None:
    """No other file, no folder, no old version, whatever way a path is written."""
    site = create_app(APP)
    found = re.search(r"/static/(\w+)/site\.css", (await knock(site, "/nowhere")).text)
    assert found is not None
    raw = path.replace("{mark}", found[1])
    assert 200 == (await knock(site, f"/static/{found[1]}/site.css")).status
    assert 404 == (await knock(site, unquote(raw), raw_path=raw.encode())).status
