"""Writing the file that brings KTDN into a training program: traiNNer-redux or neosr."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.atomic import write_whole

FILE = "ktdn_arch.py"
MARK = "Written by 'ktdn shim'"


class Program(NamedTuple):
    """A training program.

    Attributes:
        package: Its Python package, a folder in its checkout.
        scale: What its networks are to ask for the scale where they are not told; Python code.
    """

    package: str
    scale: str


PROGRAMS = {
    "trainner-redux": Program("traiNNer", scale=""),
    # Its builder passes an options file's network_g alone; its networks ask for the scale.
    "neosr": Program("neosr", scale="lambda: net_opt()[0]"),
}

_TEMPLATE = '''\
"""KTDN, the Knowledge Transfer Dehazing Network, for {program}: a network of scale 1.

{mark}. The package ktdn-plugin has to be installed in the same Python. An options
file's network_g: type KTDN, the published network, with encoder, pretrained, mean, std, reduction,
head and widths to change them; or type ktdn_small, ktdn_tiny, with all of these but the
encoder.
"""

{imports}
try:
    from ktdn_plugin.shims.registration import register_in
except ImportError as error:
    raise ImportError(f"{file} needs the package ktdn-plugin in {{sys.executable}}") from error

register_in(ARCH_REGISTRY{scale})
'''


def write_shim(destination: Path, program: str | None = None, overwrite: bool = False) -> Path:
    """Writes the file that brings KTDN into a training program, all of it or nothing.

    Args:
        destination: The program's checkout, its package or its folder ``archs``; any other folder
            where ``program`` is given.
        program: One of :data:`PROGRAMS`; needed where the folder does not tell.
        overwrite: Replace a file that an earlier call has written.

    Returns:
        The file.

    Raises:
        KTDNError: If the folder is none of these, if a file is there that may not be replaced, or
            if it cannot be written.
    """
    folder, program = _find_archs(Path(destination), program)
    path = folder / FILE
    if path.exists():
        if not _is_ours(path):
            raise KTDNError(f"{path}: exists and was not written by 'ktdn shim'; move it away")
        if not overwrite:
            raise KTDNError(f"{path}: already exists; --overwrite replaces it")
    write_whole(path, lambda file: file.write(shim_text(program).encode()))
    print_lines(f"{path}: KTDN for {program}; in its options: network_g type KTDN, scale 1")
    return path


def shim_text(program: str) -> str:
    """Returns the file's text."""
    package, scale = PROGRAMS[program]
    imports = ["import sys", "", f"from {package}.utils.registry import ARCH_REGISTRY", ""]
    if scale:
        imports.insert(2, f"from {package}.archs.arch_util import net_opt")
    return _TEMPLATE.format(
        program=program,
        mark=MARK,
        file=FILE,
        imports="\n".join(imports),
        scale=f", default_scale={scale}" if scale else "",
    )


def _find_archs(destination: Path, program: str | None) -> tuple[Path, str]:
    if not destination.is_dir():
        raise KTDNError(f"{destination}: no such folder; give the training program's folder")
    resolved = destination.resolve()
    for name, (package, _) in PROGRAMS.items():
        if (resolved / package / "archs").is_dir():
            archs = destination / package / "archs"
        elif resolved.name == package and (resolved / "archs").is_dir():
            archs = destination / "archs"
        elif resolved.name == "archs" and resolved.parent.name == package:
            archs = destination
        else:
            continue
        if program not in (None, name):
            raise KTDNError(f"{destination}: this is {name}, not {program}; remove --for")
        return archs, name
    if program is not None:
        return destination, program
    wanted = " or ".join(f"{package}/archs" for package, _ in PROGRAMS.values())
    raise KTDNError(
        f"{destination}: neither traiNNer-redux nor neosr: there is no {wanted} in it; give the "
        "folder that 'git clone' created, or say which program with --for"
    )


def _is_ours(path: Path) -> bool:
    try:
        return MARK in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
