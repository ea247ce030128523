"""Installs BasicSR where pip alone cannot: its source needs help on Python 3.13 and later.

BasicSR 1.4.2 is published as source only. Its ``setup.py`` executes a file and reads the result
from ``locals()``, which Python 3.13 ended (PEP 667), and asks for torch to build what is plain
Python.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError

VERSION = "1.4.2"
SHA256 = "b89b595a87ef964cda9913b4d99380ddb6554c965577c0c10cb7b78e31301e87"
"""Of ``basicsr-1.4.2.tar.gz``, as published."""
COMMAND = "ktdn install-basicsr"
KEPT = ("torch", "torchvision", "numpy")
"""Packages that stay as they are."""
# Of the processes that pip starts to build: executed code sees the caller's names, and new ones
# appear in its locals() again. An own sitecustomize of the environment still runs.
SITECUSTOMIZE = """
import builtins, importlib.machinery, sys

def with_locals(code, globals=None, locals=None, /, *, closure=None):
    if globals is None:
        frame = sys._getframe(1)
        globals, locals = frame.f_globals, frame.f_locals if locals is None else locals
    original(code, globals, locals, closure=closure) if closure else original(code, globals, locals)

original, builtins.exec = builtins.exec, with_locals
paths = [path for path in sys.path if path != {folder!r}]
found = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
if found is not None:
    found.loader.exec_module(importlib.util.module_from_spec(found))
"""


def require_basicsr() -> None:
    """Checks that BasicSR is there, without loading it.

    Raises:
        KTDNError: If it is not installed. It names the command that installs it.
    """
    if importlib.util.find_spec("basicsr") is None:
        raise KTDNError(f"BasicSR is not installed, and this needs it; install it: {COMMAND}")


def install_basicsr() -> None:
    """Builds BasicSR from the registry's source, its checksum checked, and installs it.

    Torch, torchvision and numpy stay as they are.

    Raises:
        KTDNError: If there is no pip, or if it fails.
    """
    if _version("basicsr") == VERSION:
        print_lines(f"BasicSR {VERSION} is installed already.")
        return
    if importlib.util.find_spec("pip") is None:
        raise KTDNError(
            f"{COMMAND}: this environment ({sys.prefix}) has no pip; install it (uv pip install "
            "pip, or python -m ensurepip), and try again"
        )
    with tempfile.TemporaryDirectory(prefix="ktdn-basicsr-") as name:
        folder = Path(name)
        print_lines(f"Building BasicSR {VERSION} from its published source")
        wheel = _build(folder)
        print_lines("Installing it, and what it requires")
        constraints = folder / "constraints.txt"
        versions = {package: _version(package) for package in KEPT}
        constraints.write_text("".join(f"{n}=={v}\n" for n, v in versions.items() if v))
        _pip(folder, "install", "-c", constraints, wheel)
    print_lines(f"BasicSR {VERSION} is installed: 'ktdn train' and 'basicsr train' work.")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _build(folder: Path) -> Path:
    """Builds the wheel with tools of its own, so that nothing is added to the environment."""
    tools = folder / "tools"
    _pip(folder, "install", "--target", tools, "setuptools>=70.1,<85")
    help_folder = folder / "help"
    help_folder.mkdir()
    text = SITECUSTOMIZE.format(folder=str(help_folder))
    (help_folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    requirements = folder / "requirements.txt"
    requirements.write_text(f"basicsr=={VERSION} --hash=sha256:{SHA256}\n")
    paths = [str(help_folder), str(tools), os.environ.get("PYTHONPATH", "")]
    _pip(
        *(folder, "wheel", "--no-deps", "--no-binary", "basicsr", "--wheel-dir", folder),
        *("--no-build-isolation", "--use-pep517", "--require-hashes", "-r", requirements),
        variables={"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    (wheel,) = folder.glob("basicsr-*.whl")
    return wheel


def _pip(folder: Path, *words: str | Path, variables: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *words],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        why = _reason(done.stdout)
        raise KTDNError(f"{COMMAND}: {why}; nothing was installed") from RuntimeError(done.stdout)


def _reason(output: str) -> str:
    """Returns the line that says why pip failed."""
    if "DO NOT MATCH THE HASHES" in output:
        return (
            f"what the package index has as basicsr {VERSION} is not the published source (its "
            "SHA-256 differs); set another index, or report it"
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # Without a network pip warns of retries, and in the end only knows no version.
    for sign in ("Retrying (", "connection"):
        if any(sign in line for line in lines):
            return "the package index cannot be reached; check the network, proxy or index of pip"
    errors = [line for line in lines if line.casefold().startswith("error:")]
    line = (errors or lines or ["pip failed"])[0].removeprefix("ERROR: ").removeprefix("error: ")
    return f"pip: {line.rstrip('.')} (--debug shows all it says)"
