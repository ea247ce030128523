"""``ktdn install-basicsr`` in environments without BasicSR, and what other commands say there.

The package index is the one that pip knows; where it does not answer, tests that need it skip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

import ktdn_plugin
from ktdn_plugin import cli
from ktdn_plugin.basicsr.installation import SHA256, VERSION, install_basicsr
from ktdn_plugin.errors import KTDNError

ROOT = Path(ktdn_plugin.__file__).parents[1]
UNREACHABLE = "the package index cannot be reached"
NEWER = next(iter(sorted(Path(sys.base_prefix).parent.glob("3.13*/bin/python"))), None)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pip, and all that is installed here but BasicSR."""
    folder = tmp_path_factory.mktemp("environment")
    packages = folder / "packages"
    packages.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not entry.name.lower().startswith(("basicsr", "pip", "__editable__")):
                (packages / entry.name).symlink_to(entry)
    venv.create(folder / "venv", with_pip=True)
    site = next((folder / "venv").glob("[Ll]ib*/**/site-packages"))
    (site / "others.pth").write_text(f"{packages}\n{ROOT}\n", encoding="utf-8")
    return folder / "venv"


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def call(python: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [python, *words],
        cwd=python.parent,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if UNREACHABLE in done.stderr and not variables:
        pytest.skip("pip reaches no package index")
    return done


INSTALL = ("-m", "ktdn_plugin", "install-basicsr")


@pytest.mark.parametrize(
    "words", ["train -opt run.yml", "test -opt run.yml", "demo --toolbox basicsr"]
)
def test_what_needs_basicsr_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "basicsr", None)
    assert cli.main(words.split()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    needs = "error: BasicSR is not installed, and this needs it; install it: ktdn install-basicsr"
    assert line == needs
    assert not [*tmp_path.iterdir()]
    if not words.startswith("demo"):
        assert cli.basicsr(words.split()) == 1
        assert capsys.readouterr().err == needs + "\n"


def test_no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pip", "basicsr"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("ktdn_plugin.basicsr.installation._version", lambda _: None)
    with pytest.raises(KTDNError, match=r"has no pip; install it \(uv pip install pip, or"):
        install_basicsr()


@pytest.mark.slow
def test_no_network(environment: Path) -> None:
    done = call(
        *(python_of(environment), *INSTALL),
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_RETRIES="1",
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: ktdn install-basicsr: {UNREACHABLE}; check the network, proxy or index of pip; "
        "nothing was installed\n"
    )


@pytest.mark.slow
def test_another_source_than_the_published_one(environment: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = tmp_path / "index"
    tools = ("-m", "pip", "download", "-q", "setuptools<85", "-d", str(folder))
    if call(python_of(environment), *tools).returncode:
        pytest.skip("pip reaches no package index")
    source = tmp_path / f"basicsr-{VERSION}"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(marker)!r}, 'w')\n")
    with tarfile.open(folder / f"basicsr-{VERSION}.tar.gz", "w:gz") as file:
        file.add(source, source.name)
    places = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    done = call(python_of(environment), *INSTALL, **places)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is not the published source (its SHA-256 differs)" in line
    assert not marker.exists()


@pytest.mark.slow
def test_installing_it(environment: Path) -> None:
    copy = environment.with_name("copy")
    shutil.copytree(environment, copy, symlinks=True)
    done = call(python_of(copy), *INSTALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"BasicSR {VERSION} is installed: ")
    find = "import importlib.util; print(importlib.util.find_spec('basicsr').origin)"
    assert str(copy) in call(python_of(copy), "-c", find).stdout
    site = next(copy.glob("[Ll]ib*/**/site-packages"))
    assert not (site / "torch").exists(), "torch was installed a second time"
    assert call(python_of(copy), *INSTALL).stdout == f"BasicSR {VERSION} is installed already.\n"


@pytest.mark.slow
@pytest.mark.skipif(NEWER is None, reason="Python 3.13 is not beside this one")
def test_building_it_on_python_3_13(tmp_path: Path) -> None:
    code = "import sys, pathlib; from ktdn_plugin.basicsr.installation import _build; "
    code += "print(_build(pathlib.Path(sys.argv[1])).name)"
    paths = {"PYTHONPATH": str(ROOT)} if NEWER else {}
    done = call(NEWER or Path(), "-c", code, str(tmp_path), **paths)
    if UNREACHABLE in done.stderr:
        pytest.skip("pip reaches no package index")
    assert done.stdout == f"basicsr-{VERSION}-py3-none-any.whl\n", done.stderr
    assert len(SHA256) == 64
