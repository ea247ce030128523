"""The trained networks that ship with the package, and their names."""

from __future__ import annotations

import functools
from pathlib import Path

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.storage.atomic import digest_of

FOLDER = Path(__file__).parent / "weights"
"""Each file is called ``NAME-DIGEST.safetensors``: the first digits of its SHA-256, as torch.hub
has them. Its model card is the README.md beside it."""

SHIPPED = ("ktdn_small", "ktdn_tiny")
DEFAULT = "ktdn_small"
"""The default network for dehazing."""


def resolve_checkpoint(checkpoint: str | Path) -> Path:
    """Returns the file that a checkpoint's name or path stands for.

    Args:
        checkpoint: One of :data:`SHIPPED`, or a path. A file with that name comes first.

    Returns:
        The path. Of one that is clearly no name (it has a folder or a suffix), nothing is checked:
        whoever reads it says what is wrong with it.

    Raises:
        KTDNError: If it is neither a file nor a model's name, or the model's file is missing or
            damaged.

    Example:
        >>> resolve_checkpoint("ktdn_small").suffix
        '.safetensors'
    """
    path = file_of(checkpoint)
    name = str(checkpoint)
    if path.is_file() or path.suffix or len(path.parts) != 1:
        return path
    guess = did_you_mean(name, (*SHIPPED, *_beside(path)))
    raise KTDNError(
        f"{name}: no such checkpoint file (trained networks: experiments/NAME/models/"
        "net_g_best.pth), and no weights of that name ship with the package "
        f"({', '.join(SHIPPED)}){guess}"
    )


def file_of(checkpoint: str | Path) -> Path:
    """Returns the file that a model's name stands for, and any other path as it is.

    Raises:
        KTDNError: If the model's file is missing or damaged.
    """
    name, path = str(checkpoint), Path(checkpoint)
    return find_shipped(name) if name in SHIPPED and not path.is_file() else path


def _beside(path: Path) -> list[str]:
    """Lists checkpoints of the folder, among which a file may have been meant."""
    suffixes = (".pth", ".safetensors")
    return [one.name for one in Path.cwd().iterdir() if one.suffix in suffixes]


@functools.cache
def find_shipped(name: str) -> Path:
    """Returns the file of a network that comes with the package, once its digest is checked.

    Raises:
        KTDNError: If it is missing, or is not the file that the package shipped.
    """
    again = "reinstall the package (pip install --force-reinstall --no-deps, and its folder)"
    found = sorted(FOLDER.glob(f"{name}-*.safetensors"))
    if not found:
        raise KTDNError(f"{name}: its weights are missing from {FOLDER}; {again}")
    path = found[-1]
    try:
        digest = digest_of(path)
    except OSError as error:
        raise KTDNError(f"{path}: cannot be read ({error.strerror or error}); {again}") from error
    if not digest.startswith(path.stem.removeprefix(f"{name}-")):
        raise KTDNError(
            f"{path}: is not the file that the package shipped (SHA-256 {digest}); {again}"
        )
    return path
