"""``ktdn dehaze`` on videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dehaze.conftest import files
from PIL import Image
from skimage import data

from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.dehaze.video import VIDEO_CODECS
from ktdn_plugin.errors import KTDNError

FRAMES, RATE = 24, 23.976


def write_video(path: str, width: int = 96, height: int = 64, frames: int = FRAMES) -> None:
    codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[Path(path).suffix])
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, codec, RATE, (width, height))
    scene = np.ascontiguousarray(data.astronaut()[..., ::-1])
    for number in range(frames):
        writer.write(scene[number * 8 : number * 8 + height, :width])
    writer.release()


def read_video(path: str | Path) -> tuple[list[np.ndarray], float]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (found := video.read())[0]:
        frames.append(found[1])
    return frames, video.get(cv2.CAP_PROP_FPS)


def inverted(image: np.ndarray) -> np.ndarray:
    assert image.dtype == np.uint8
    return 255 - image


def no_red(image: np.ndarray) -> np.ndarray:
    return image * np.array([0, 1, 1], np.uint8)


@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_frames_rate_and_size_are_kept(
    here: Path, suffix: str, capsys: pytest.CaptureFixture
) -> None:
    write_video(f"clip{suffix}")
    dehaze_all([Path(f"clip{suffix}")], Path("out"), lambda: inverted)
    assert capsys.readouterr().out.splitlines() == [
        f"the sound of videos is not kept: clip{suffix}",
        "Dehazed: out",
    ]
    assert files("out") == [f"clip{suffix}"]
    before, _ = read_video(f"clip{suffix}")
    after, rate = read_video(f"out/clip{suffix}")
    assert len(after) == FRAMES
    assert rate == pytest.approx(RATE, abs=0.01)
    for one, other in zip(before, after, strict=True):
        assert one.shape == other.shape
        assert np.abs(255 - one.astype(int) - other).mean() < 12


def test_channels_are_red_green_blue(here: Path) -> None:
    write_video("clip.mp4")
    dehaze_all([Path("clip.mp4")], Path("out.avi"), lambda: no_red)
    frames, _ = read_video("out.avi")
    means = np.mean(frames, axis=(0, 1, 2))
    assert means[2] < 12 < means[1]


def test_the_network_dehazes_a_video(here: Path, dehaze: Callable) -> None:
    write_video("clip.mp4", frames=3)
    code, out, err = dehaze("clip.mp4", "-o", "result.mp4")
    assert (code, err) == (0, "")
    assert "the sound of videos is not kept" in out
    assert len(read_video("result.mp4")[0]) == 3
    assert dehaze("clip.mp4", "-o", "result.mp4")[1].startswith(
        "made earlier, perhaps by another checkpoint or from another photo: result.mp4\n"
        "1 of 1 was there already"
    )
    code, _, err = dehaze("clip.mp4", "--format", "png")
    assert (code, err.startswith("error: --format png: is of photos")) == (1, True)


def test_odd_sizes_lose_a_line_with_a_note(here: Path, capsys: pytest.CaptureFixture) -> None:
    frames = [Image.fromarray(data.astronaut()[at : at + 65, :97]) for at in (0, 20, 40)]
    # OpenCV cannot write a video of such a size, but read one: FFmpeg goes by the content.
    frames[0].save("odd.mkv", "GIF", save_all=True, append_images=frames[1:], duration=40)
    dehaze_all([Path("odd.mkv")], Path("out"), lambda: inverted)
    said = capsys.readouterr().out
    assert "of 97 x 65 pixels the last odd row or column is cut off: odd.mkv" in said
    before, (after, _) = read_video("odd.mkv")[0], read_video("out/odd.mkv")
    assert [frame.shape for frame in after] == [(64, 96, 3)] * 3
    for one, other in zip(before, after, strict=True):
        assert np.abs(255 - one[:64, :96].astype(int) - other).mean() < 12


@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_a_truncated_video_is_an_error_and_leaves_nothing(here: Path, suffix: str) -> None:
    write_video(f"clip{suffix}")
    whole = Path(f"clip{suffix}").read_bytes()
    Path(f"clip{suffix}").write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(
        KTDNError, match=rf"clip\{suffix}: (ends early, after|not a decodable video)"
    ):
        dehaze_all([Path(f"clip{suffix}")], Path("out"), lambda: inverted)
    assert not Path("out").exists() or files("out") == []


def test_not_a_video(here: Path) -> None:
    Path("clip.mp4").write_text("<html>")
    with pytest.raises(KTDNError, match=r"clip\.mp4: not a decodable video"):
        dehaze_all([Path("clip.mp4")], Path("out"), lambda: inverted)
    write_video("real.mp4")
    with pytest.raises(KTDNError, match=r"-o x\.png: a video is written as \.mp4"):
        dehaze_all([Path("real.mp4")], Path("x.png"), lambda: inverted)


def test_an_interrupted_video_leaves_nothing(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_video("clip.mp4")
    seen = []

    def stop(image: np.ndarray) -> np.ndarray:
        seen.append(1)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return image

    with pytest.raises(KeyboardInterrupt):
        dehaze_all([Path("clip.mp4")], Path("out"), lambda: stop)
    assert files("out") == []
    assert "0 of 1 are done" in capsys.readouterr().err


def test_videos_in_folders_are_left_out_and_named(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    write_video("photos/clip.mp4")
    dehaze_all([Path("photos")], Path("out"), lambda: inverted)
    assert files("out") == ["a.png", "deeper/b.jpg", "deeper/c.webp"]
    said = capsys.readouterr().out
    assert f"name them to dehaze them: {Path('photos/clip.mp4')}" in said


def test_videos_are_neither_compared_nor_measured_with_a_note(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    write_video("clip.mp4")
    dehaze_all([Path("clip.mp4")], Path("out"), lambda: inverted, compare=True)
    assert "videos are neither compared nor measured: clip.mp4" in capsys.readouterr().out
    assert files("out") == ["clip.mp4"]
