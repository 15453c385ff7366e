"""What follows each change, whoever asked for it: a line in the log, and a look that knows of it."""

from jobqueue.base.log import get_logger
from jobqueue.web.dashboard.reading.view import View

log = get_logger(__name__)


def tell(view: View, action: str) -> None:
    """This was done; `action` as it stands in URLs, such as `jobs/retry`."""
    log.info("web.action", action=action, who=view.access.user)
    view.site.looker.look_anew()
