"""The ten people of the toy corpus: two portraits, mirrored, mixed, reshaped and dyed, and their voices."""

from __future__ import annotations

from dataclasses import dataclass, field

from prep.toy.heads import (
    Colour,
    Head,
    Shape,
    closed,
    recoloured,
    reshaped,
    with_face_of,
    without_hinges,
)
from prep.toy.portraits import load_portrait
from prep.toy.speech import Voice

BLACK = ((12, 10, 12), (95, 85, 85))
AUBURN = ((45, 15, 8), (190, 105, 60))
GREY = ((70, 70, 75), (235, 235, 235))
BLONDE = ((80, 55, 25), (250, 225, 165))
BROWN = ((25, 15, 10), (130, 95, 65))

#: How much of a smile is taken back when the lips are closed.
_RELAX = {"astronaut": 1.2, "hopper": 0.0}


@dataclass(frozen=True)
class Look:
    """One person.

    Attributes:
        split: ``train``, ``val`` or ``test``; nobody is in two of them.
        portrait: ``astronaut`` or ``hopper``.
        voice: how the person sounds.
        mirror: the portrait is mirrored first.
        other_face: share of the other portrait's face that the head wears, 0 for its own face.
        shape: what is changed about the face.
        skin: gain of red, green and blue.
        hair: darkest and lightest colour, or None for the portrait's own.
        cloth: colour of dark clothes, or None.
        backdrop: kind of background, see :mod:`prep.toy.backdrops`.
        wall: the background's colour.
        zoom: how near the camera is.
        opening: distance of the lips at the widest vowel, in distances between the outer eye corners.
        light: brightness of the right edge against the left one, 0 for even light.
    """

    split: str
    portrait: str
    voice: Voice
    mirror: bool = False
    other_face: float = 0.0
    shape: Shape = field(default_factory=Shape)
    skin: Colour = (1, 1, 1)
    hair: tuple[Colour, Colour] | None = None
    cloth: Colour | None = None
    backdrop: str = "studio"
    wall: Colour = (120, 130, 140)
    zoom: float = 1.0
    opening: float = 0.19
    light: float = 0.0

    @property
    def glasses(self) -> bool:
        """Whether there are glasses on the nose: brows and lids must then stay clear of the rims."""
        return (self.portrait == "hopper") != (self.other_face > 0)


#: In the order in which clips are given to them.
LOOKS = (
    Look("train", "astronaut", Voice("en-us+f2", 48, 160), backdrop="studio", wall=(126, 133, 140)),
    Look(
        "test",
        "hopper",
        Voice("en-us+f5", 30, 148),
        shape=Shape(lips=0.01),
        backdrop="studio",
        wall=(88, 120, 165),
        opening=0.185,
        light=-0.15,
    ),
    Look(
        "val",
        "astronaut",
        Voice("en-gb-scotland+f4", 46, 165),
        mirror=True,
        shape=Shape(jaw=0.05, cheeks=0.02, eyes_apart=-0.02, nose_width=0.02, lips=0.012),
        skin=(1.1, 1.1, 1.1),
        hair=AUBURN,
        cloth=(60, 80, 120),
        backdrop="window",
        wall=(150, 145, 130),
        zoom=1.04,
        light=0.2,
    ),
    Look(
        "train",
        "astronaut",
        Voice("en-us+f3", 40, 158),
        shape=Shape(
            jaw=-0.04, eyes_apart=0.025, eye_size=0.06, nose_length=-0.03, nose_width=0.025, lips=0.022
        ),
        skin=(0.5, 0.38, 0.34),
        hair=BLACK,
        backdrop="bokeh",
        wall=(70, 90, 110),
        opening=0.2,
    ),
    Look(
        "train",
        "hopper",
        Voice("en-gb-x-rp+f1", 38, 150),
        mirror=True,
        other_face=0.65,
        shape=Shape(jaw=-0.04, cheeks=-0.02, chin=0.03, lips=0.008),
        backdrop="shelf",
        wall=(120, 95, 75),
        zoom=0.97,
        light=0.15,
    ),
    Look(
        "train",
        "astronaut",
        Voice("en-us+aunty", 45, 150),
        mirror=True,
        other_face=0.6,
        shape=Shape(jaw=0.03, nose_length=0.02),
        hair=GREY,
        cloth=(50, 100, 90),
        backdrop="window",
        wall=(165, 155, 140),
        opening=0.185,
        light=-0.15,
    ),
    Look(
        "train",
        "hopper",
        Voice("en-029+f4", 34, 152),
        mirror=True,
        shape=Shape(jaw=0.06, cheeks=0.04, nose_length=-0.03, nose_width=0.03, lips=0.02),
        skin=(0.42, 0.49, 0.57),
        cloth=(120, 40, 40),
        backdrop="studio",
        wall=(105, 125, 100),
        zoom=1.03,
    ),
    Look(
        "test",
        "astronaut",
        Voice("en-us-nyc+f2", 60, 168),
        shape=Shape(
            jaw=0.02, chin=-0.03, cheeks=0.03, brows=0.02, eye_size=0.08, nose_length=-0.04, lips=0.015
        ),
        skin=(0.9, 0.9, 0.95),
        hair=BLONDE,
        cloth=(140, 50, 60),
        backdrop="shelf",
        wall=(110, 110, 125),
        zoom=1.02,
        opening=0.2,
        light=-0.2,
    ),
    Look(
        "train",
        "hopper",
        Voice("en-us+linda", 40, 155),
        other_face=0.8,
        shape=Shape(jaw=0.03, eyes_apart=0.02, nose_width=0.02, lips=0.015, chin=-0.02),
        skin=(0.42, 0.49, 0.57),
        cloth=(70, 90, 70),
        backdrop="bokeh",
        wall=(115, 90, 70),
    ),
    Look(
        "train",
        "astronaut",
        Voice("en+f1", 44, 162),
        mirror=True,
        shape=Shape(jaw=-0.05, cheeks=-0.03, chin=0.05, eyes_apart=-0.02, nose_length=0.03, lips=0.014),
        skin=(0.8, 0.65, 0.55),
        hair=BROWN,
        cloth=(95, 85, 110),
        backdrop="shelf",
        wall=(90, 110, 115),
        zoom=1.05,
        light=0.15,
    ),
)


def load_bases(side: int) -> dict[tuple[str, bool], Head]:
    """Both portraits with closed lips, as they are and mirrored, on stages of ``side`` pixels."""
    return {
        (name, mirror): closed(load_portrait(name, side, mirror), relax)
        for name, relax in _RELAX.items()
        for mirror in (False, True)
    }


def build_head(look: Look, bases: dict[tuple[str, bool], Head]) -> Head:
    """The head of a person from what :func:`load_bases` returned."""
    head = bases[look.portrait, look.mirror]
    if look.other_face:
        (other,) = (name for name in _RELAX if name != look.portrait)
        head = with_face_of(head, bases[other, look.mirror], look.other_face)
        if look.portrait == "hopper":
            head = without_hinges(head)
    return recoloured(reshaped(head, look.shape), look.skin, look.hair, look.cloth)
