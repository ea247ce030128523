"""Errors that are written for people: one line that says what is wrong and what to do."""

from __future__ import annotations

import difflib
import re
import signal
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

OTHER_NAMES = {
    "gpu": "cuda",
    "nvidia": "cuda",
    "fp32": "float32",
    "float": "float32",
    "half": "fp16",
    "float16": "fp16",
    "bfloat16": "bf16",
}
"""What other programs call some of our names, which look unlike them."""


_NO_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
_LOST = re.compile("(CUDA|HIP|cuDNN|XPU) (driver )?error|CUDNN_STATUS|device is lost|GPU is lost")


class KTDNError(Exception):
    """Something that the user can fix: a file, an option, a name.

    The message is one line that names the file, key or option, says what is wrong and what to do.
    Commands print it without a traceback unless ``--debug`` is given.
    """

    @property
    def lines(self) -> list[str]:
        """What to print: one line each, unless names and values in them have line breaks."""
        return [str(self)]


class NotFiniteError(KTDNError):
    """A loss or a gradient became NaN or infinite; the weights are the previous iteration's."""


class PreemptedError(KTDNError):
    """A training was ended by a signal, its state saved.

    Args:
        number: The signal.
        iteration: The iteration whose state is saved.
        flag: What resumes it.

    Attributes:
        exit_code: What the process ends with: 128 and the signal, as shells and schedulers know it.
    """

    def __init__(self, number: int, iteration: int, flag: str) -> None:
        self.exit_code = 128 + number
        super().__init__(
            f"stopped by {signal.Signals(number).name} after iteration {iteration}, whose state is "
            f"saved; {flag} resumes from it"
        )


class TooLittleMemoryError(KTDNError):
    """There is not enough memory for an image, whichever way it is run."""


class SeveralErrors(KTDNError):
    """Several problems that were found at once.

    Args:
        problems: One line each.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self._lines = list(problems)
        super().__init__("\n".join(self._lines))

    @property
    def lines(self) -> list[str]:
        """One line for each problem."""
        return self._lines


class OptionsError(SeveralErrors):
    """Everything that is wrong with an options file, one line for each problem.

    Args:
        source: The options file.
        problems: One line each, without the file's name.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = list(problems)
        super().__init__(f"{source}: {problem}" for problem in self.problems)


class OtherProcessError(KTDNError):
    """Another process of a distributed run failed, and this one cannot go on.

    Args:
        message: What to say.
        is_worth_saying: Whether the other one may have died silently.
    """

    def __init__(self, message: str, is_worth_saying: bool) -> None:
        self.is_worth_saying = is_worth_saying
        super().__init__(message)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error of torch or numpy says that a device has no memory left."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    )


def is_device_lost(error: BaseException) -> bool:
    """Returns whether an error of torch says that a device is of no use any more."""
    return (
        isinstance(error, RuntimeError)
        and not is_out_of_memory(error)
        and _LOST.search(str(error)) is not None
    )


def out_of_memory_line(error: BaseException, lower: str) -> str:
    """Returns the line for an error that :func:`is_out_of_memory` knows.

    Args:
        error: The error.
        lower: What takes less memory when it is lowered, by the names that the person knows it by:
            a toolbox's keys, a command's flags.
    """
    return f"out of memory: lower {lower} ({first_line(error)})"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message; the error's type where there is no message."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def describe_error(error: BaseException) -> str:
    """Returns an error's type and the first line of its message, cut to 300 characters.

    Example:
        >>> describe_error(ValueError("too large"))
        'ValueError: too large'
    """
    kind, line = type(error).__name__, first_line(error)[:300]
    return kind if line == kind else f"{kind}: {line}"


def printable(text: str) -> str:
    """Escapes what would break a line or act on a terminal: file contents are not trusted.

    Those are control characters, what changes the direction of text or cannot be seen, and what is
    no character at all, as in names that are not UTF-8. Spaces of all widths stay.
    """
    return "".join(
        letter if _is_printable(letter) else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def _is_printable(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Suggests the known name that is meant by a wrong one, or looks most like it.

    Args:
        name: What was written.
        known: The names that exist.

    Returns:
        ``"; did you mean 'X'?"``, or an empty string where nothing is similar. Of names that are
        equally similar X is the first.
    """
    text = str(name)
    # The dashes of flags would make any two of them similar.
    wanted = text.lower().lstrip("-")
    names = list(known)
    if (other := OTHER_NAMES.get(wanted)) in names:
        return f"; did you mean '{other}'?"

    bare, exact = difflib.SequenceMatcher(b=wanted), difflib.SequenceMatcher(b=text)

    def similarity(candidate: str) -> tuple[float, float]:
        bare.set_seq1(candidate.lower().lstrip("-"))
        exact.set_seq1(candidate)
        return bare.ratio(), exact.ratio()

    # Not get_close_matches, which of equally similar ones takes the last in the alphabet.
    best = max(names, key=similarity, default="")
    return f"; did you mean '{best}'?" if best and similarity(best)[0] >= 0.6 else ""


@contextmanager
def error_context(source: str) -> Iterator[None]:
    """Turns errors that options cause in toolboxes and torch into one line naming the file.

    Args:
        source: The options file, or the config.

    Raises:
        KTDNError: In place of any other error that a value of the wrong kind may cause.
    """
    try:
        yield
    except (KTDNError, OSError, ImportError):
        raise
    except Exception as error:
        # Lost processes are reported by those who know of them: rank and way to resume.
        of_worker = isinstance(error, RuntimeError) and "DataLoader" in str(error)
        if is_out_of_memory(error) or is_lost_process(error) or of_worker:
            raise
        raise KTDNError(
            f"{source}: these options cannot be used ({describe_error(error)}); --debug shows where"
        ) from error


def is_lost_process(error: Exception) -> bool:
    """Returns whether torch says that contact with another process was lost."""
    signs = ("gloo", "NCCL", "onnection", "imed out", "Broken pipe", "socket")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
