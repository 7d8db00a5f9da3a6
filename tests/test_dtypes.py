"""The table of element types agrees with module.h, NumPy and LLVM."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tiaot.export.dtypes import ELEMENT_TYPES, Dtype

HEADER = Path(__file__).parents[1] / "runtime" / "include" / "tiaot" / "module.h"


@pytest.mark.parametrize("dtype", ELEMENT_TYPES, ids=lambda each: each.name)
def test_an_element_type_is_the_same_on_all_sides(dtype: Dtype) -> None:
    known = dict(re.findall(r"TIAOT_(U?INT\d+|FLOAT\d+) = (0x\w+)", HEADER.read_text()))
    assert int(known[dtype.name.upper()], 16) == dtype.code
    assert np.dtype(dtype.name).itemsize == dtype.item
    assert (np.dtype(dtype.name).kind == "f") == dtype.is_real
    llvm = pytest.importorskip("llvmlite.binding")
    module = llvm.parse_assembly(
        f"@size = global i64 ptrtoint ({dtype.ir}* getelementptr ({dtype.ir}, {dtype.ir}* null, i32 1) to i64)"
    )
    module.verify()


def test_every_element_type_of_the_header_is_in_the_table() -> None:
    known = re.findall(r"TIAOT_(U?INT\d+|FLOAT\d+) = 0x", HEADER.read_text())
    assert sorted(name.lower() for name in known) == sorted(each.name for each in ELEMENT_TYPES)
