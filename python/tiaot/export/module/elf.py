"""ELF: which sections a shared library has. Knows nothing of modules."""

from __future__ import annotations

import dataclasses
import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_KINDS = {1: "PROGBITS", 4: "RELA", 7: "NOTE", 8: "NOBITS"}
_ALLOCATED = 2
_LOAD = 1


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a shared library, of 64 bits and little-endian."""

    name: str
    kind: str  # "PROGBITS", "RELA", "NOTE", "NOBITS", or "" for any other
    allocated: bool  # whether it is loaded
    address: int
    offset: int
    size: int
    segment: int  # the index of what it is loaded with; -1: nothing

    @property
    def in_file(self) -> bool:
        return self.kind != "NOBITS"

    def with_size(self, size: int) -> Section:
        return dataclasses.replace(self, size=size)


def read_sections(image: bytes) -> list[Section]:
    """All sections of a shared library, in the order of its table."""
    header = _HEADER.unpack_from(image)
    segments_at, sections_at = header[5], header[6]
    segment_count, section_size, section_count, names_index = header[10], header[11], header[12], header[13]
    segments = [_SEGMENT.unpack_from(image, segments_at + i * _SEGMENT.size) for i in range(segment_count)]
    rows = [_SECTION.unpack_from(image, sections_at + i * section_size) for i in range(section_count)]
    names_at = rows[names_index][4]

    def segment_of(address: int) -> int:
        for index, (kind, _, _, start, _, _, memory_size, _) in enumerate(segments):
            if kind == _LOAD and start <= address < start + memory_size:
                return index
        return -1

    sections = []
    for name, kind, flags, address, offset, size, *_ in rows:
        text = image[names_at + name : image.index(b"\0", names_at + name)].decode()
        allocated = bool(flags & _ALLOCATED)
        place = segment_of(address) if allocated else -1
        sections.append(Section(text, _KINDS.get(kind, ""), allocated, address, offset, size, place))
    return sections
