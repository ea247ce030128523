"""Which images of a user's folders can be used, judged by their headers."""

from __future__ import annotations

from dataclasses import replace

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.image_files import file_image_size, headers_bar, name_within
from ktdn_plugin.scenes.problems import first_of, refuse
from ktdn_plugin.scenes.scene_set import SceneSet


def drop_unusable(scenes: SceneSet, *, allow_incomplete: bool, where: str = "") -> SceneSet:
    """Reads the headers of a folder's images, and drops what cannot be used.

    Args:
        scenes: The images, incomplete or not.
        allow_incomplete: Leave out unusable images, and their partners, instead of refusing all.
        where: Where all problems are to be found, for a message that has not room for them.

    Returns:
        What can be used; what cannot is among its missing ones.

    Raises:
        KTDNError: If anything is missing or cannot be used and that is not allowed, or if nothing
            is left.
    """
    place, problems = scenes.place, list(scenes.missing)
    hazy, clear = scenes.files("hazy"), scenes.files("clear")
    sizes = {}
    for path in headers_bar([*hazy, *clear]):
        try:
            sizes[path] = file_image_size(path)
        except KTDNError as error:
            problems.append(str(error).replace(str(path), name_within(path, place), 1))
    if scenes.pairs is None:
        pairs = [(path, path) for path in clear]
    else:
        pairs = [(hazy[one], clear[other]) for one, other in scenes.pairs.tolist()]
    kept = []
    for number, (one, other) in enumerate(pairs):
        if one not in sizes or other not in sizes:
            continue
        if sizes[one] == sizes[other]:
            kept.append(number)
            continue
        both = " and ".join(f"{sizes[path][1]} x {sizes[path][0]}" for path in (one, other))
        names = f"{name_within(one, place)} and {name_within(other, place)}"
        problems.append(f"{names} differ in size ({both})")
    if not allow_incomplete:
        what = "not all images can be used, or have a partner"
        refuse(place, what, problems, "fix, add or remove them", where)
    if not kept:
        raise KTDNError(f"{place}: no image can be used: {first_of(problems)}")
    return replace(scenes if len(kept) == len(pairs) else scenes.only(kept), missing=problems)
