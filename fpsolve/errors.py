"""Errors that hand over the answer: where, what was found, what is required, what to do; and warnings."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final


class FpsolveError(Exception):
    """An error with four parts; any part may be empty and is then left out of the message.

    str(error) = "<where>: <found>. <required>. <remedy>."

    where : the place: file and key for a case; time, axis and cell for a run.
    found : what was found there.
    required : what is required there.
    remedy : what to do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, where: str, found: str, required: str = "", remedy: str = "") -> None:
        # All four parts become Exception.args, so that the error survives pickling between processes.
        super().__init__(where, found, required, remedy)
        self.where = where
        self.found = found
        self.required = required
        self.remedy = remedy

    def __str__(self) -> str:
        message = " ".join(_sentence(part) for part in (self.found, self.required, self.remedy) if part.strip())
        place = self.where.strip().rstrip(":")
        return f"{place}: {message}" if place and message else place or message

    def as_record(self) -> dict[str, str]:
        """Return the four parts by name, for the `error` entry of --json."""
        return {"where": self.where, "found": self.found, "required": self.required, "remedy": self.remedy}


class CaseError(FpsolveError):
    """The input is wrong: nothing was run."""

    exit_code: ClassVar[int] = 2


class RunError(FpsolveError):
    """The input was fine, the run failed."""

    exit_code: ClassVar[int] = 1


@final
@dataclass(frozen=True)
class Notice:
    """Something that a user should know about a result: a warning, by a code for machines and in words."""

    code: str
    message: str


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the nearest known word as ' Did you mean "x"?', or '' when none is near; appended to a remedy."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f' Did you mean "{near[0]}"?' if near else ""


def _sentence(part: str) -> str:
    part = part.strip()
    return part if part.endswith((".", "?", "!")) else f"{part}."
