"""The documents: the README's code runs, its commands are CI's, and every public name is documented."""

import re
from pathlib import Path

import tiaot

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_first_code_of_the_readme_runs() -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "tiaot.load" in code[0]
    exec(compile(code[0], "README.md", "exec"), {})


def test_ci_runs_the_readmes_test_command() -> None:
    assert README.count('\n    pip install ".[test]" && pytest\n') == 1
    assert "\n    pip install . && tiaot demo\n" in README
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script


def test_every_public_name_is_documented() -> None:
    for name in tiaot.__all__:
        if name.startswith("__"):
            continue
        thing = getattr(tiaot, name)
        assert (thing.__doc__ or "").strip(), name
        for member in vars(thing) if isinstance(thing, type) else ():
            if not member.startswith("_"):
                assert (getattr(thing, member).__doc__ or "").strip(), f"{name}.{member}"
