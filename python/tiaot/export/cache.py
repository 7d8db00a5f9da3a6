"""The cache: what was traced and lowered before, in files under the user's cache folder. Knows no kernels.

An entry's name is the hash of all that it follows from, so that it is right for as long as it exists.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from pathlib import Path

_MOST_BYTES = 512 << 20  # of all entries; the longest unused go first


def default_folder() -> Path | None:
    """Where entries are kept: TIAOT_CACHE_DIR, or `tiaot` in the cache folder of the XDG base directories.

    None for a user who has no home, such as one of a container who is in no list of users.
    """
    own = os.environ.get("TIAOT_CACHE_DIR")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache", "tiaot")
    except RuntimeError:
        return None


@functools.cache
def _exporter() -> bytes:
    """What every entry follows from: the exporter's own code and the packages that it uses."""
    from importlib.metadata import version

    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(repr([version("taichi"), version("llvmlite"), sys.version_info[:2]]).encode())
    return digest.digest()


class Cache:
    """Entries by the parts that they follow from. A folder of None keeps none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def _path(self, parts: tuple[str | bytes, ...]) -> Path | None:
        if self.folder is None:
            return None
        digest = hashlib.sha256(_exporter())
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        name = digest.hexdigest()
        return self.folder / name[:2] / name[2:]

    def get(self, *parts: str | bytes) -> bytes | None:
        """The entry, None when there is none that can be read."""
        path = self._path(parts)
        try:
            if path is None:
                return None
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        body, check = data[:-32], data[-32:]
        return body if hashlib.sha256(body).digest() == check else None

    def put(self, data: bytes, *parts: str | bytes) -> None:
        """Keeps an entry. Where that cannot be, nothing is kept: a cache is no reason to fail."""
        path = self._path(parts)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_bytes(data + hashlib.sha256(data).digest())
            partial.replace(path)
        except OSError:
            return

    def prune(self) -> None:
        """Removes the longest unused entries where they are too much together."""
        if self.folder is None or not self.folder.is_dir():
            return
        found = []
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found, key=lambda each: each[0]):
            if total <= _MOST_BYTES:
                return
            path.unlink(missing_ok=True)
            total -= size
