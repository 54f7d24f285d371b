"""Image files without their metadata, for those whose metadata a decoder cannot read.

What is left is what the pixels need. Sources: ITU T.81 (JPEG), ISO 15948 (PNG), RFC 9649 (WebP),
TIFF 6.0.
"""

import struct
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_WEBP_DROPPED = (b"EXIF", b"XMP ", b"ICCP")
_JPEG_DROPPED = (*range(0xE1, 0xEE), 0xEF, 0xFE)
"""Markers APP1 to APP13, APP15 and COM; APP0 (JFIF) and APP14 (Adobe) tell the colour space."""
_TIFF_NEEDED = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317}
    | {320, 322, 323, 324, 325, 332, 334, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521}
    | {529, 530, 531, 532}
)


def without_metadata(content: bytes) -> bytes:
    """A JPEG, PNG, WebP or TIFF file without metadata, or any exception; other content as it is."""
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd8" + b"".join(_jpeg_segments(content))
    if content.startswith(_PNG):
        return _PNG + b"".join(_png_chunks(content))
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        body = b"WEBP" + b"".join(_webp_chunks(content))
        return b"RIFF" + struct.pack("<I", len(body)) + body
    if content[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(content, "<" if content[:1] == b"I" else ">")
    return content


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    place = 2
    while content[place + 1] != 0xDA:  # start of scan: pixels follow
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if marker not in _JPEG_DROPPED:
            yield content[place : place + 2 + length]
        place += 2 + length
    yield content[place:]


def _png_chunks(content: bytes) -> Iterator[bytes]:
    place = len(_PNG)
    while place < len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] in _PNG_NEEDED:
            yield content[place:end]
        place = end


def _webp_chunks(content: bytes) -> Iterator[bytes]:
    place = 12
    while place < len(content):
        length = int.from_bytes(content[place + 4 : place + 8], "little")
        end = place + 8 + length + length % 2
        if content[place : place + 4] not in _WEBP_DROPPED:
            yield content[place:end]
        place = end


def _tiff(content: bytes, order: str) -> bytes:
    """The first directory keeps the entries that pixels need; offsets stay true."""
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    entries = [content[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    kept = [e for e in entries if struct.unpack_from(f"{order}H", e)[0] in _TIFF_NEEDED]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return content[:start] + directory + content[start + len(directory) :]
