"""Which files are media, by suffix: the same sets for corpora, predictions and lists.

A suffix is in lower case and without its dot. What :mod:`prep.containers` and :mod:`prep.stills` can open is in one of
the first three sets; a file is opened by its content, whatever its suffix. A ``gif`` can be a film or a still picture.
"""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Moving pictures: MP4 and QuickTime, Matroska, AVI, MPEG programs and transport streams (DVD, camcorders, broadcast),
#: Flash, Windows Media, Ogg, professional and raw streams.
VIDEO_SUFFIXES = _set(
    "mp4 m4v mov qt 3gp 3gpp 3g2 3gp2 f4v mj2 mkv webm avi divx "
    "mpg mpeg mpe m1v m2v mpv m2p vob mod ts mts m2ts m2t tp trp tod "
    "flv wmv asf ogv ogm mxf dv ivf h264 264 h265 265 hevc y4m gif"
)
#: Still pictures.
IMAGE_SUFFIXES = _set(
    "png apng jpg jpeg jpe jfif webp bmp dib tif tiff gif avif ppm pgm pbm pnm tga jp2 j2k jpx"
)
#: Sound without pictures.
SOUND_SUFFIXES = _set(
    "wav wave w64 aif aiff aifc au snd mp3 mp2 mpga m4a m4b aac ac3 flac ogg oga opus spx wma caf mka weba amr"
)
#: Media that cannot be read here, playlists, and downloads that were not finished: they are only counted.
OTHER_SUFFIXES = _set(
    "rm rmvb ra ram swf m3u m3u8 mpd pls wtv nut gxf r3d braw lrv thm bik smk fli flc "
    "heic heif hif jxl psd svg ico dng cr2 cr3 nef arw ape wv tta mpc mid midi part crdownload"
)
#: All of them.
MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES | SOUND_SUFFIXES | OTHER_SUFFIXES


def suffix_of(name: str) -> str:
    """``mp4`` for ``a/B.MP4``, and ``""`` for a name without a dot."""
    _, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot else ""
