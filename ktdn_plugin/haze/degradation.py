"""Degradation of clear photographs: kinds of haze, and what cameras do before and after it.

Networks that learn from one kind of synthetic haze fail on real haze; data of many kinds carry over
(RIDCP: Wu et al., CVPR 2023, which reports that the data gave more than the network; CORUN: Fang
et al., NeurIPS 2024). Everything is done to the input alone, as in RIDCP's code: the target stays
the clear photograph, since that is what a user wants, bright and without noise.

Equal seeds give equal images on one machine; unlike :mod:`~ktdn_plugin.haze.scattering`, powers,
noise and JPEG may differ in the last bit from machine to machine, or from one numpy to another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.haze.clouds import Floats, Window
from ktdn_plugin.haze.distance import make_ramp
from ktdn_plugin.haze.scattering import Range, draw_airlight, exp_of_minus, make_transmission

KINDS = ("clouds", "depth", "clouds_and_depth", "homogeneous", "no_haze")
BETA: Range = (0.3, 1.5)
TYPICAL = 0.5  # the relative distance at which clouds are as thick as ``density`` says
WALL = (0.2, 1.0)  # relative distance of the whole scene in homogeneous haze


class Limits(NamedTuple):
    """A range's default, and what it must lie within."""

    default: Range
    low: float
    high: float


OPERATIONS: dict[str, dict[str, Limits]] = {
    "darkening": {"gamma": Limits((1.5, 3.0), 1, 10)},
    "noise_before": {"sigma": Limits((2, 25), 0, 255)},
    "airlight": {
        "brightness": Limits((0.25, 1.0), 0, 2),
        "color": Limits((-0.025, 0.025), -1, 1),
    },
    "erosion": {"times": Limits((1, 2), 1, 16)},
    "white_balance": {"gain": Limits((0.9, 1.1), 0.1, 10)},
    "exposure": {"gain": Limits((0.8, 1.2), 0.1, 10)},
    "tone": {"gamma": Limits((0.8, 1.25), 0.1, 10)},
    "contrast": {"factor": Limits((0.9, 1.2), 0, 10)},
    "noise": {"sigma": Limits((0, 8), 0, 255)},
    "jpeg": {"quality": Limits((30, 95), 1, 100)},
}


@dataclass(frozen=True)
class Degradation:
    """Which degradations a photograph may suffer, how often, and how strong.

    Attributes:
        kinds: Share of the samples that gets each kind of haze; the shares add up to 1.
            ``clouds``: ``synthesize_haze``'s, at one distance. ``depth``: ``exp(-2 beta x)``, x the
            relative distance in [0, 1] out of the depth map, or of a ramp, far at the top
            (RIDCP, who write x as 1 - d). ``clouds_and_depth``: clouds whose optical depth grows in
            proportion to distance. ``homogeneous``: ``depth`` with the same x from 0.2 to 1
            everywhere. ``no_haze``: the photograph itself, untouched by everything else too, so
            that clear photographs come out unharmed. Empty: ``clouds``, or ``clouds_and_depth``
            where there are depth maps.
        beta: Range of beta. RIDCP's is [0.3, 1.5], CORUN's [0.2, 2.8].
        min_transmission: Least transmission, below 1. Ours: in 8 bit a scene behind 0.05 has 13
            levels left, and nobody can tell what was there.
        operations: Share and ranges of what else is done, in this order, by their names in
            ``OPERATIONS``; what is not listed is not done:

            - ``darkening``: ``J ** gamma`` (RIDCP: share 0.5, [1.5, 3]): haze lies over dull days;
            - ``noise_before``: Gaussian noise in the scene, grey or coloured half of the time
              each; sigma in 255ths (RIDCP: share 0.5, [2, 25]);
            - ``erosion``: of the transmission, 3 x 3 pixels, so many ``times`` (CORUN: share 0.5,
              once or twice), which takes the halo from edges in the foreground;
            - ``airlight``: one of any brightness that is neutral but for ``color``, drawn for each
              channel (RIDCP: [0.25, 1] and [-0.025, 0.025]; HazeFlow, 2025, goes to 1.8); the
              other samples keep the bluish airlight of ``synthesize_haze``;
            - ``white_balance``: a ``gain`` of red and one of blue; ``exposure``: one of all;
              ``tone``: ``I ** gamma``; ``contrast``: of the distance from middle grey; ``noise``:
              the sensor's, as ``noise_before``. The ranges are ours: what automatic cameras made
              of scenes whose hazy and clear photographs were taken minutes apart;
            - ``jpeg``: compression (RIDCP: share 0.5, quality [30, 95]).
    """

    kinds: Mapping[str, float] = field(default_factory=dict)
    beta: Range = BETA
    min_transmission: float = 0.0
    operations: Mapping[str, tuple[float, Mapping[str, Range]]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Degradation:
        """Makes one of an options section.

        Example:
            >>> made = Degradation.of({"kinds": {"depth": 0.9, "no_haze": 0.1}})
            >>> made.kinds, made.beta
            ({'depth': 0.9, 'no_haze': 0.1}, (0.3, 1.5))

        Raises:
            KTDNError: If a key is unknown or a value out of range.
        """
        _check_keys(values, ("kinds", "beta", "min_transmission", *OPERATIONS), "")
        least = _number(values.get("min_transmission", 0.0), "min_transmission", 0, 1)
        if least == 1:
            raise KTDNError("degradation.min_transmission: 1 leaves no haze; lower it")
        return cls(
            _kinds(values.get("kinds")),
            _range(values.get("beta", BETA), "beta", 0, 40),
            least,
            {name: _operation(name, values[name]) for name in OPERATIONS if name in values},
        )

    def draw_kind(self, stream: np.random.Generator) -> str:
        """Draws one of the kinds by their shares; empty where no shares are given."""
        if not self.kinds:
            return ""
        shares = np.cumsum(list(self.kinds.values()))
        chosen = np.searchsorted(shares, stream.random() * shares[-1], side="right")
        return list(self.kinds)[int(chosen)]

    def draw(self, name: str, stream: np.random.Generator) -> dict[str, Any] | None:
        """Draws an operation's numbers; None where the sample is spared."""
        share, ranges = self.operations.get(name, (0.0, {}))
        if stream.random() >= share:
            return None
        # Three of each: one for a channel, where channels differ.
        return {key: stream.uniform(*bounds, 3) for key, bounds in ranges.items()}


def degrade(
    clear: NDArray[np.uint8],
    seed: int,
    degradation: Degradation,
    haze: Mapping[str, Any] | None = None,
    *,
    frame: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
    distance: Floats | None = None,
) -> NDArray[np.uint8]:
    """Makes the hazy photograph that a camera might have taken of a clear one.

    Args:
        clear: (h, w, 3) RGB.
        seed: Of everything that is drawn, in [0, 2**32 - 1].
        degradation: What may be done.
        haze: Ranges for :func:`~ktdn_plugin.haze.scattering.synthesize_haze`; its defaults where
            absent.
        frame: Height and width of the whole image where ``clear`` is a window of it.
        at: Top and left of that window.
        distance: Relative distance, (h, w) in [0, 1]; a ramp is drawn by default.

    Returns:
        (h, w, 3) RGB; ``clear`` itself where no haze was drawn.
    """
    stream = np.random.default_rng(seed)
    kind = degradation.draw_kind(stream) or ("clouds" if distance is None else "clouds_and_depth")
    if kind == "no_haze":
        return clear
    height, width = clear.shape[:2]
    window = Window(height, width, *at, frame or (height, width))
    image = _before(clear, degradation, stream)
    transmission, light = _medium(kind, window, seed, degradation, haze or {}, distance, stream)
    # Merged planes: numpy takes twice as long to stretch one plane over three channels.
    image *= cv2.merge([transmission] * 3)
    scattered = 1 - transmission
    image += cv2.merge([scattered * channel for channel in light])
    return _photograph(image, degradation, stream)


def _before(
    clear: NDArray[np.uint8], degradation: Degradation, stream: np.random.Generator
) -> Floats:
    """Darkens the scene, and adds noise."""
    values = np.linspace(0, 1, 256, dtype=np.float32)
    if drawn := degradation.draw("darkening", stream):
        values = values ** np.float32(drawn["gamma"][0])
    image: Floats = values[clear]
    if drawn := degradation.draw("noise_before", stream):
        _add_noise(image, drawn["sigma"][0], stream)
        np.clip(image, 0, 1, out=image)
    return image


def _medium(
    kind: str,
    window: Window,
    seed: int,
    degradation: Degradation,
    haze: Mapping[str, Any],
    distance: Floats | None,
    stream: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Makes transmission (h, w) and airlight (3,) of one kind of haze."""
    if kind == "homogeneous":
        distance = np.full((window.height, window.width), stream.uniform(*WALL), np.float32)
    elif kind == "clouds":
        distance = None
    elif distance is None:
        distance = make_ramp(stream, window)
    if kind in ("clouds", "clouds_and_depth"):
        depth = None if distance is None else distance / np.float32(TYPICAL)
        transmission, light = make_transmission(window, seed, depth=depth, **haze)
    else:
        assert distance is not None
        beta = stream.uniform(*degradation.beta)
        transmission = exp_of_minus(distance * np.float32(2 * beta))
        bluish = {key: haze[key] for key in ("airlight", "tint") if key in haze}
        light = draw_airlight(np.random.RandomState(seed), **bluish)
    np.maximum(transmission, np.float32(degradation.min_transmission), out=transmission)
    if drawn := degradation.draw("erosion", stream):
        times = round(drawn["times"][0])
        cv2.erode(transmission, np.ones((3, 3), np.uint8), transmission, iterations=times)
    if drawn := degradation.draw("airlight", stream):
        light = np.maximum(drawn["brightness"][0] + drawn["color"], 0).astype(np.float32)
    return transmission, light


def _photograph(
    image: Floats, degradation: Degradation, stream: np.random.Generator
) -> NDArray[np.uint8]:
    """Does what a camera does, in place, down to the 8 bit of its file."""
    if drawn := degradation.draw("white_balance", stream):
        image *= np.array([drawn["gain"][0], 1, drawn["gain"][2]], np.float32)
    if drawn := degradation.draw("exposure", stream):
        image *= np.float32(drawn["gain"][0])
    if drawn := degradation.draw("tone", stream):
        image **= np.float32(drawn["gamma"][0])
    if drawn := degradation.draw("contrast", stream):
        factor = np.float32(drawn["factor"][0])
        image *= factor
        image += np.float32(0.5) * (1 - factor)
    if drawn := degradation.draw("noise", stream):
        _add_noise(image, drawn["sigma"][0], stream)
    image *= 255
    photograph = np.rint(image, out=image).clip(0, 255, out=image).astype(np.uint8)
    if drawn := degradation.draw("jpeg", stream):
        # A camera's JPEG, in memory, and no file of ours.
        quality = [cv2.IMWRITE_JPEG_QUALITY, round(drawn["quality"][0])]
        _, content = cv2.imencode(".jpg", cv2.cvtColor(photograph, cv2.COLOR_RGB2BGR), quality)
        decoded: NDArray[Any] | None = cv2.imdecode(content, cv2.IMREAD_COLOR)
        assert decoded is not None, "just encoded"
        cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, photograph)
    return photograph


def _add_noise(image: Floats, sigma: float, stream: np.random.Generator) -> None:
    channels = 3 if stream.random() < 0.5 else 1
    noise = stream.standard_normal((*image.shape[:2], channels), np.float32)
    noise *= np.float32(sigma / 255)
    image += noise


def _kinds(kinds: Any) -> dict[str, float]:
    if kinds is None:
        return {}
    _check_keys(kinds, KINDS, "kinds.")
    shares = {kind: _number(share, f"kinds.{kind}", 0, 1) for kind, share in kinds.items()}
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise KTDNError(
            f"degradation.kinds: the shares must add up to 1, not {sum(shares.values()):g}"
        )
    return shares


def _operation(name: str, values: Any) -> tuple[float, dict[str, Range]]:
    limits = OPERATIONS[name]
    _check_keys(values, ("share", *limits), f"{name}.")
    if "share" not in values:
        raise KTDNError(f"degradation.{name}.share: missing; the share of the samples, 0 to 1")
    share = _number(values["share"], f"{name}.share", 0, 1)
    return share, {
        key: _range(values.get(key, limit.default), f"{name}.{key}", limit.low, limit.high)
        for key, limit in limits.items()
    }


def _check_keys(values: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(values, Mapping):
        whole = f"degradation.{where}".rstrip(".")
        raise KTDNError(f"{whole}: must be a section of 'key: value' lines, not {values!r}")
    for key in values:
        if key not in known:
            raise KTDNError(f"degradation.{where}{key}: unknown key{did_you_mean(key, known)}")


def _number(value: Any, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise KTDNError(f"degradation.{where}: {value!r} must be a number from {low:g} to {high:g}")
    return float(value)


def _range(values: Any, where: str, low: float, high: float) -> Range:
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise KTDNError(f"degradation.{where}: {values!r} must be two numbers: [smallest, largest]")
    first, last = (_number(value, where, low, high) for value in values)
    if first > last:
        raise KTDNError(f"degradation.{where}: {list(values)} must have its smallest number first")
    return first, last
