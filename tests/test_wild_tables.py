"""Module files with right checksums and wild tables: each is opened or refused, and none crashes."""

import subprocess
import sys
from pathlib import Path

import pytest

# Changes counts, sizes and pointers of a kept module, at random, and opens each in a child of its own.
WILD = """
import collections, os, random, struct, sys
from pathlib import Path
import tiaot
from tiaot.export.module.elf import read_sections
from tiaot.export.module.link import fill_note

seed, kept, target = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
base = kept.read_bytes()
digest = tiaot.open(kept).hash
sections = {section.name: section for section in read_sections(base)}
tables, relocations = sections[".data.rel.ro"], sections[".rela.dyn"]
draw = random.Random(seed)

def change(image):
    if draw.random() < 0.5:
        at = tables.offset + draw.randrange(0, tables.size - 8, 4)
        wild = (0, 1, 2, 3, 5, 31, 33, 64, 65, 255, 1 << 16, 1 << 31, (1 << 32) - 1, draw.getrandbits(32))
        struct.pack_into("<I", image, at, draw.choice(wild))
        return
    at = relocations.offset + 24 * draw.randrange(relocations.size // 24)
    place, _, addend = struct.unpack_from("<QQq", image, at)
    if tables.address <= place < tables.address + tables.size:
        wild = (0, -1, addend + draw.randrange(-64, 64), draw.randrange(len(base)), draw.getrandbits(40))
        struct.pack_into("<q", image, at + 16, draw.choice(wild))

outcomes = collections.Counter()
for _ in range(300):
    image = bytearray(base)
    for _ in range(draw.choice((1, 1, 2))):
        change(image)
    target.write_bytes(fill_note(bytes(image), digest, "0"))
    child = os.fork()
    if child == 0:
        try:
            tiaot.open(target).info()
            os._exit(0)
        except tiaot.ModuleError:
            os._exit(1)
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(2)
    outcomes[os.waitpid(child, 0)[1]] += 1
print(outcomes[0], outcomes[1 << 8], sum(outcomes.values()))
"""


@pytest.mark.parametrize("seed", range(3))
def test_wild_tables_are_opened_or_refused(tmp_path: Path, seed: int) -> None:
    kept = Path(__file__).parent / "modules" / "abi5.tiaot.so"
    command = [sys.executable, "-c", WILD, str(seed), str(kept), str(tmp_path / "wild.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opened, refused, tried = map(int, done.stdout.split())
    assert (opened + refused, tried) == (300, 300), done.stdout
    assert opened > 50 and refused > 50
