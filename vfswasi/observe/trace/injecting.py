"""What a callable may say of a call that is about to be made."""

from __future__ import annotations

from ...errors import Errno


def errno_of_answer(answer: object) -> Errno | None:
    """The errno that the guest is to get instead; None: the call is made. Raises TypeError for what is neither an
    `Errno`, nor the name or number of one: a call that is not made cannot have succeeded either."""
    if answer is None:
        return None
    found: Errno | None = None
    if isinstance(answer, str):
        members = Errno.__members__
        found = members.get(answer) or members.get(answer.removeprefix("E"))
    elif isinstance(answer, int) and not isinstance(answer, bool):
        found = next((each for each in Errno if each == answer), None)
    if not found:  # nor SUCCESS
        raise TypeError(
            f"the callable given as trace= answered {answer!r:.100}; it has to be None, or what the guest gets "
            'instead of the call: an Errno, or its name ("NOSPC") or number'
        )
    return found
