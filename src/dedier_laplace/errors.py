"""The one exception a user's mistake raises: the command line prints it and exits with code 2."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake the user can mend. The message is one plain sentence: what, where, what to do."""


def nearest(word: object, choices: Iterable[object]) -> str:
    """`; did you mean X?` for the choice nearest to `word`, or the list of choices."""
    names = [str(choice) for choice in choices]
    close = get_close_matches(str(word), names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"choose one of: {', '.join(names)}" if names else "nothing may stand here"
