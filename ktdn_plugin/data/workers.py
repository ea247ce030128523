"""Errors for failures in, or of, the processes that read the data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ktdn_plugin.errors import KTDNError, first_line


@contextmanager
def worker_failures_as_errors(
    where: str = "datasets.train", number: str = "num_worker_per_gpu"
) -> Iterator[None]:
    """Turns failures of the data-loading workers into one-line errors.

    It belongs around a whole training: torch reports a killed worker wherever the program is.

    Args:
        where: What options or configs call the training data.
        number: What they call the number of workers.

    Raises:
        KTDNError: One line, in place of a worker's traceback.
    """
    died = f"{where}: a data-loading worker died, most likely out of memory: lower {number}"
    try:
        yield
    except KTDNError as error:
        # A worker's exception comes back with its whole traceback for a message.
        marker = f"{KTDNError.__module__}.{KTDNError.__qualname__}: "
        if marker not in str(error):
            raise
        raise KTDNError(str(error).rsplit(marker, 1)[-1].strip()) from error
    except (ConnectionError, EOFError) as error:  # it died while it handed a batch over
        raise KTDNError(f"{died} ({error or type(error).__name__})") from error
    except RuntimeError as error:
        first = first_line(error)
        if "DataLoader timed out" in first:
            raise KTDNError(
                f"{where}: the data-loading workers do not respond ({first}); "
                "restart with resume, and check that the files can be read"
            ) from error
        if "DataLoader worker" not in first:
            raise
        raise KTDNError(f"{died} ({first})") from error
