"""Putting a generated crop back into the frame that it was cut from, through a soft mask."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


def paste(frame: Image, crop: Image, transform: npt.ArrayLike, mask: Float32) -> None:
    """Blend a crop into its frame, in place: the inverse of cutting it out.

    What lies outside of the crop, or where the mask is 0, keeps its bytes. A seam shows unless the mask falls
    to 0 at the crop's edges.

    Args:
        frame: (H, W, 3) uint8, written to.
        crop: (h, w, 3) uint8, channels in the frame's order.
        transform: (2, 3) float, full-frame to crop pixels, both continuous (pixel j covers [j, j + 1)); as
            :attr:`models.base.Crop.transform`.
        mask: (p, q) float32 in [0, 1] over the crop, at any resolution: the crop's share of the result.

    Raises:
        ValueError: ``transform`` is not finite, or has no inverse.
    """
    matrix = np.asarray(transform, np.float64)
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:, :2]) == 0:
        raise ValueError(f"a crop cannot be pasted by the transform {matrix.tolist()}")
    height, width = crop.shape[:2]
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    corners = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    low, high = corners.min(axis=0), corners.max(axis=0)
    whole, around = np.round((low, high)), np.stack([np.floor(low), np.ceil(high)])
    # Boxes of integers are resized, not warped: OpenCV warps to a 32nd of a pixel only.
    box = matrix[0, 0] > 0 < matrix[1, 1] and matrix[0, 1] == 0 == matrix[1, 0]
    box = box and bool(np.abs(whole - (low, high)).max() < 0.01)
    (x0, y0), (x1, y1) = (whole if box else around).astype(int).tolist()
    left, top = max(x0, 0), max(y0, 0)
    target = frame[top : max(y1, top), left : max(x1, left)]
    if not target.size:
        return
    if box:
        inside = np.s_[top - y0 : top - y0 + target.shape[0], left - x0 : left - x0 + target.shape[1]]
        picture, share = (_resize(image, x1 - x0, y1 - y0)[inside] for image in (crop, mask))
    else:
        picture, share = _warp(crop, mask, matrix, left, top, target)
    blended = target + (picture.astype(np.float32) - target) * share[..., None]
    target[:] = np.rint(blended).astype(np.uint8)


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    # Up to a half, plain bilinear gives back what was once enlarged with less blur.
    averaged = 2 * width < image.shape[1] or 2 * height < image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if averaged else cv2.INTER_LINEAR)


def _warp(
    crop: Image, mask: Float32, matrix: np.ndarray, left: int, top: int, target: Image
) -> tuple[np.ndarray, np.ndarray]:
    """Crop and mask as they lie over ``target``, the part of the frame that begins at ``left`` and ``top``."""
    height, width = crop.shape[:2]
    share = _resize(mask, width, height)
    shrink = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrink > 1:
        # As much blur as averaging over a frame pixel brings, so that what becomes smaller does not flicker.
        sigma = float(np.sqrt((shrink**2 - 1) / 12))
        crop, share = (cv2.GaussianBlur(image, (0, 0), sigma) for image in (crop, share))
    # OpenCV counts from the centre of the first pixel, the matrix from its corner.
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2] @ (left + 0.5, top + 0.5) - 0.5
    x, y = np.arange(target.shape[1]), np.arange(target.shape[0])[:, None]
    (a, b, c), (d, e, f) = centred
    # Rounded to 1/32 of a pixel, since OpenCV interpolates differently from version to version at exact positions.
    whole, parts = cv2.convertMaps(
        (a * x + (b * y + c)).astype(np.float32),
        (d * x + (e * y + f)).astype(np.float32),
        cv2.CV_16SC2,
    )
    picture = cv2.remap(crop, whole, parts, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return picture, cv2.remap(share, whole, parts, cv2.INTER_LINEAR)
