"""Names and whole numbers as users may say them, checked where they are said."""

from jobqueue.base.errors import InvalidOption

NAME_LENGTH = 100
ATTEMPTS = (1, 2**15 - 1)
"""How many a job may have, as the database takes it."""


def check_name(option: str, name: str) -> str:
    """A name as the database takes it: 1 to 100 characters, none of them invisible, which leaves out NUL."""
    given: object = name
    if not isinstance(given, str):
        raise InvalidOption(option, f"must be text, not {type(given).__name__}")
    if not 1 <= len(name) <= NAME_LENGTH:
        raise InvalidOption(option, f"must have 1 to {NAME_LENGTH} characters, not {len(name)}")
    if not name.isprintable():
        raise InvalidOption(option, "must have printable characters only: no NUL, line break or the like")
    return name


def check_whole(option: str, value: int | None, limits: tuple[int, int]) -> int | None:
    """A whole number within limits."""
    given: object = value
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or not limits[0] <= given <= limits[1]:
        raise InvalidOption(option, f"must be a whole number from {limits[0]} to {limits[1]}")
    return given
