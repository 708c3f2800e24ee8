"""The square round the mouth that DINet and G4G hide in a face and paint anew."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class MouthSquare:
    """Where the hidden square lies in a face of the view ``mouth416x320``, at any resolution.

    As ``dataset/`` of DINet's official code cuts it (Zhang et al., AAAI 2023): a square of M pixels a side in a face of
    1.5 M + M / 8 rows and M + M / 4 columns, with M / 2 rows above it and M / 8 rows and columns on its other sides.
    The method's stages have M = 64, 128 and 256: faces of 104×80, 208×160 and 416×320.

    Args:
        mouth: M, pixels, a multiple of 8.

    Raises:
        ValueError: ``mouth`` is none.
    """

    mouth: int

    def __post_init__(self) -> None:
        if self.mouth < 8 or self.mouth % 8:
            raise ValueError(f"a mouth square of {self.mouth} pixels: its side is a multiple of 8")

    @property
    def height(self) -> int:
        """Rows of a face."""
        return 13 * self.mouth // 8

    @property
    def width(self) -> int:
        """Columns of a face."""
        return 5 * self.mouth // 4

    @property
    def rows(self) -> slice:
        """Rows of the square."""
        return slice(self.mouth // 2, 3 * self.mouth // 2)

    @property
    def columns(self) -> slice:
        """Columns of the square."""
        return slice(self.mouth // 8, 9 * self.mouth // 8)

    def cut(self, pictures: Tensor) -> Tensor:
        """(..., H, W) faces → (..., M, M): the square, a view of them.

        Raises:
            ValueError: they are not of this size.
        """
        self._check(pictures)
        return pictures[..., self.rows, self.columns]

    def hide(self, pictures: Tensor) -> Tensor:
        """(..., H, W) faces → a copy of them with 0 in the square.

        Raises:
            ValueError: they are not of this size.
        """
        self._check(pictures)
        hidden = pictures.clone()
        hidden[..., self.rows, self.columns] = 0
        return hidden

    def _check(self, pictures: Tensor) -> None:
        if pictures.shape[-2:] != (self.height, self.width):
            found = "×".join(map(str, pictures.shape[-2:]))
            raise ValueError(
                f"faces of {found} pixels; a mouth of {self.mouth} has {self.height}×{self.width}"
            )
