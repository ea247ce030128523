"""Videos that are interrupted: what is finished is not done again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dehaze.conftest import all_files, files
from dehaze.video_files import FRAME, read_video, write_video
from preloaded import Command

from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.dehaze.video_parts import Parts
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.videos.encoding import PART

FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from ktdn_plugin.cli import main
sys.exit(main(sys.argv[2:]))
"""


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.ktdn-parts/*.npz"))


@pytest.mark.slow
def test_a_killed_command_goes_on_behind_its_last_part(tmp_path: Path) -> None:
    # Times that vary, so that each frame can be told from the next one.
    times = [number * FRAME + 90 * (number % 7) for number in range(2 * PART + 10)]
    # In widths other than multiples of 128, x264's assembler weighs blocks by memory that nobody
    # wrote, so that two runs with the same frames differ by some bits.
    write_video(tmp_path / "clip.mkv", len(times), times=times, size=(128, 96))
    words = ("dehaze", "clip.mkv", "--checkpoint", "ktdn_tiny", "--device", "cpu", "-o")
    command = Command((*words, "killed.mp4"), tmp_path, {})
    command.wait_until(lambda: parts(tmp_path))
    command.send(signal.SIGKILL)
    assert command.wait(60).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed.mp4").exists()
    left = {path: path.stat().st_mtime_ns for path in parts(tmp_path)}
    done = Command((*words, "killed.mp4"), tmp_path, {}).wait(100)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"killed.mp4: resumes after frame {len(left) * PART}\n" in done.stdout
    whole = Command((*words, "whole.mp4"), tmp_path, {}).wait(100)
    assert (whole.returncode, whole.stdout) == (0, "Dehazed: whole.mp4\n")
    assert all_files(tmp_path) == ["clip.mkv", "killed.mp4", "whole.mp4"]
    one, other = (read_video(tmp_path / name) for name in ("killed.mp4", "whole.mp4"))
    assert one.times == other.times == read_video(tmp_path / "clip.mkv").times
    assert one.copies == other.copies
    assert all(map(np.array_equal, one.images, other.images))


class Stop:
    """Dehazes, and is interrupted at a frame."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return image


def interrupt(checkpoint: Path, at: int = PART + 9, **options: object) -> int:
    """Returns how many frames were dehazed."""
    stop = Stop(at)
    output = Path("out")
    dehaze_all([Path("clip.mp4")], output, lambda: stop, checkpoint=checkpoint, **options)
    return at - stop.left


@pytest.fixture
def clip(here: Path, checkpoint: Path) -> Path:
    write_video("clip.mp4", PART + 12, sound=None)
    with pytest.raises(KeyboardInterrupt):
        interrupt(checkpoint)
    assert len(parts(Path("out"))) == 1
    return checkpoint


def test_an_interrupted_video_resumes(clip: Path, capsys: pytest.CaptureFixture) -> None:
    assert interrupt(clip, 99) == 12
    assert files("out") == ["clip.mp4"]
    assert f"{Path('out/clip.mp4')}: resumes after frame {PART}\n" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["checkpoint", "strength", "video", "part"])
def test_what_was_begun_otherwise_starts_over(
    clip: Path, change: str, capsys: pytest.CaptureFixture
) -> None:
    options, words = {}, "with other settings"
    if change == "checkpoint":
        content = clip.read_bytes()
        clip = clip.with_name("other.pth")
        clip.write_bytes(content + b"x")
        words = "by another checkpoint"
    elif change == "strength":
        options["strength"] = 0.5
    elif change == "video":
        write_video("clip.mp4", PART + 12, sound=None)
        words = "of another video"
    else:  # what a power cut may leave
        parts(Path("out"))[0].write_bytes(b"PK")
        words = ""
    assert interrupt(clip, 99, **options) == PART + 12
    said = capsys.readouterr().out
    assert (f"{Path('out/clip.mp4')}: begun {words}; starts over\n" in said) == bool(words)
    assert "resumes" not in said
    assert files("out") == ["clip.mp4"]
    assert len(read_video("out/clip.mp4").images) == PART + 12


def test_without_a_finished_part_nothing_is_left(here: Path, checkpoint: Path) -> None:
    write_video("clip.mp4", 9)
    with pytest.raises(KeyboardInterrupt):
        interrupt(checkpoint, 5)
    assert all_files("out") == []
    assert list(Path("out").iterdir()) == []


def test_a_video_has_one_writer(clip: Path) -> None:
    with Parts(Path("out/clip.mp4"), {}), pytest.raises(KTDNError, match="another process is"):
        interrupt(clip)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a file's size")
@pytest.mark.parametrize("limit", [4_000, 60_000])
def test_a_full_disk_is_one_line_and_no_result(
    here: Path, run: Callable, checkpoint: Path, limit: int
) -> None:
    """In a part, and in the result, whose sound alone is larger."""
    sound = "pcm_s16le" if limit > 9999 else None
    write_video("clip.mov", 40, sound=sound)
    Path("limited.py").write_text(FULL_DISK)
    words = ("dehaze", "clip.mov", "-o", "x.mov", "--checkpoint", str(checkpoint))
    done = run(str(limit), *words, "--device", "cpu", script="limited.py")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: x.mov: cannot be written (File too large); free some space")
    assert not Path("x.mov").exists()
