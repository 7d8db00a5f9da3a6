"""`tiaot inspect`: what a module file says of itself, as text or JSON. Opening it has checked it."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from . import ModuleError, cpu_level, inspect_code, load
from . import open as open_module


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="NAME|FILE", help="a module that ships with tiaot, or a module file")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("--code", action="store_true", help="the loops of each entry: vectors or not (needs objdump)")


def describe(target: str) -> dict[str, Any]:
    """Module.info() of a shipped module or a file, with 'file_bytes', 'checksum' and 'machine_cpu_level'.

    Raises ModuleError when the file is no module or is damaged, ValueError when there is neither a file nor a shipped
    module of that name.
    """
    if os.path.isfile(target) or os.path.dirname(target):
        with open_module(target) as module:
            info = module.info()
    else:
        try:
            info = load(target).module.info()
        except ModuleError:
            raise
        except ValueError as error:
            raise ValueError(f"'{target}' is no file, and as a name: {error}") from None
    info["file_bytes"] = os.path.getsize(info["path"])
    # A module whose checksum is wrong does not open.
    info["checksum"] = "verified for code and tables (the file was rewritten)" if info["rewritten"] else "verified"
    info["machine_cpu_level"] = cpu_level()
    return info


def entries_of(info: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of all kernels and variants."""
    return [entry for kernel in info["kernels"] for variant in kernel["variants"] for entry in variant["entries"]]


def loops_of(info: dict[str, Any]) -> dict[str, list[inspect_code.Loop]]:
    """For each entry's symbol the loops of its code at the level that runs here.

    Raises RuntimeError where there is no objdump, or no symbol for an entry's code, NotImplementedError for another
    machine's code than x86-64's.
    """
    if not info["target"].startswith("x86_64"):
        raise NotImplementedError(f"{info['path']}: --code reads the code of x86-64, not of {info['target']}")
    level = info["cpu_level"].rpartition("-")[2]
    functions = {entry["symbol"]: f"{entry['symbol']}_{level}" for entry in entries_of(info)}
    found = inspect_code.find_loops(info["path"], list(functions.values()))
    for function in functions.values():
        if function not in found:
            raise RuntimeError(f"{info['path']}: has no symbol {function}: it was stripped of its symbols")
    return {symbol: found[function] for symbol, function in functions.items()}


def code_lines(info: dict[str, Any], loops: dict[str, list[inspect_code.Loop]]) -> list[str]:
    """What `--code` adds to the text."""
    lines = [
        "",
        f"loops in the code for {info['cpu_level']}, in the order of the code, each without those inside of it:",
    ]
    for symbol, found in loops.items():
        lines += ["", f"  {symbol}", *(f"    {line}" for line in inspect_code.lines(found))]
    return lines


def _columns(rows: list[list[str]]) -> list[str]:
    """Numbers to the right, the rest to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def cell(text: str, width: int) -> str:
        return text.rjust(width) if text.replace(",", "").isdigit() else text.ljust(width)

    return [
        "  " + "  ".join(cell(text, width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _entry_name(entry: dict[str, Any]) -> str:
    return f"{entry['kind']} {', '.join(entry['wrt'])}".strip()


def _sizes(variant: dict[str, Any]) -> str:
    fixed = {name: size for name, size in variant["fixed"].items() if not name.isdigit()}  # a number is its own size
    return ", ".join(f"{name}={size}" for name, size in fixed.items()) or "any"


def _kernel_lines(kernel: dict[str, Any], level: str) -> list[str]:
    differentiable = ", ".join(a["name"] for a in kernel["inputs"] if a["differentiable"])
    lines = ["", f"kernel {kernel['name']}: {kernel['signature']}"]
    if kernel["doc"].strip():
        lines.append(f"  {kernel['doc'].strip().splitlines()[0]}")
    batch = kernel["batch_dim"] or "none"
    about = f"batch dimension: {batch}; gradients for: {differentiable or 'nothing'}"
    lines.append(f"  {'works on the state' if kernel['state'] else about}")
    lines += [f"  {kernel['verification']}"] if kernel["verification"] else []
    lines.append("")
    entries = [entry for variant in kernel["variants"] for entry in variant["entries"]]
    levels = list(entries[0]["code_bytes"]) if entries else []
    marked = [f"{name} *" if name == level else name for name in levels]
    rows = [["variant", "sizes", "gradient", "entry", *marked]]
    for variant in kernel["variants"]:
        first = [variant["name"], _sizes(variant), "autodiff" if variant["autodiff"] else "written"]
        for entry in variant["entries"]:
            rows.append([*first, _entry_name(entry), *(f"{entry['code_bytes'][name]:,}" for name in levels)])
            first = ["", "", ""]
    lines += _columns(rows)
    lines += ["", "  bytes of code; * is what runs here. A call takes the first variant that fits its arrays:"]
    by_dtype: dict[str, list[str]] = {}
    for variant in kernel["variants"]:
        dtypes = "/".join(dict.fromkeys(variant["dtypes"].values()))
        sizes = _sizes(variant)
        when = f"{variant['name']} for {'the rest' if sizes == 'any' else sizes}"
        by_dtype.setdefault(dtypes, []).append(when)
    return lines + [f"    {dtypes}: {'; '.join(order)}" for dtypes, order in by_dtype.items()]


def _state_lines(state: dict[str, Any]) -> list[str]:
    gradients = {field["gradient"] for field in state["fields"]}
    rows = [
        [
            field["name"],
            f"{field['dtype']}[{', '.join(map(str, field['shape']))}]",
            "with a gradient" if field["gradient"] else "",
        ]
        for field in state["fields"]
        if field["name"] not in gradients
    ]
    return ["", f"state, {state['bytes']:,} bytes:", *_columns(rows)]


_ORDERS = {
    "ordered if small": "entries whose last bits vary where what they add to is large beside the data",
    "unordered": "entries whose results depend on the order of atomic operations",
}


def needed_driver(ptxas_version: str) -> str:
    """The driver that runs what a version of ptxas has written: one of its own major version, or a later one."""
    return f"a driver of CUDA {ptxas_version.partition('.')[0]} or later"


def _cuda_lines(info: dict[str, Any]) -> list[str]:
    cuda = info["cuda"]
    if cuda is None:
        return ["  no CUDA code"]
    kernels = len(cuda["kernels"])
    version = cuda["ptxas_version"]
    lines = ["", f"CUDA, {kernels} kernel{'' if kernels == 1 else 's'}, compiled by ptxas {version}:"]
    lines.append(f"  machine code needs {needed_driver(version)}")
    rows = [["image", "for compute capability", "bytes", "uncompressed"]]
    for image in cuda["images"]:
        devices = image["architecture"]  # of the same first number only, where it is a cubin
        reach = (
            f"{devices} and later {devices.partition('.')[0]}.x" if image["kind"] == "cubin" else f"{devices} and later"
        )
        rows.append([image["kind"], reach, f"{image['bytes']:,}", f"{image['code_bytes']:,}"])
    lines += _columns(rows)
    entries = entries_of(info)
    for order, what in _ORDERS.items():
        if symbols := [entry["symbol"] for entry in entries if entry["cuda_order"] == order]:
            lines += [f"  {what}:", *(f"    {symbol}" for symbol in symbols)]
    missing: dict[str, list[str]] = {}
    for entry in entries:
        if not entry["cuda"]:
            missing.setdefault(entry["cuda_missing"] or "no reason given", []).append(entry["symbol"])
    if not missing:
        return [*lines, "  every entry has CUDA code"]
    lines.append("  entries without CUDA code, and why:")
    for reason, symbols in missing.items():
        lines += [f"    {symbol}: {reason}" for symbol in symbols]
    return lines


def text(info: dict[str, Any]) -> str:
    """The description for people."""
    lines = [
        f"{info['name']}  {info['path']}",
        f"  {info['file_bytes']:,} bytes, checksum {info['checksum']}, hash {info['hash']}",
        f"  made by tiaot {info['tiaot_version']} with Taichi {info['taichi_version']} and LLVM {info['llvm_version']}",
        f"  ABI {info['abi_version']}, for {info['target']}",
        f"  this machine has {info['machine_cpu_level']} and runs the code for {info['cpu_level']}",
    ]
    lines += _cuda_lines(info)
    if info["state"] is not None:
        lines += _state_lines(info["state"])
    for kernel in info["kernels"]:
        lines += _kernel_lines(kernel, info["cpu_level"])
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Prints the description; errors are raised."""
    info = describe(arguments.module)
    loops = loops_of(info) if arguments.code else {}
    if arguments.json:
        for entry in entries_of(info) if loops else []:
            entry["loops"] = [loop.described() for loop in loops[entry["symbol"]]]
        print(json.dumps(info, indent=1))
    else:
        print("\n".join([text(info), *(code_lines(info, loops) if loops else [])]))
    return 0
