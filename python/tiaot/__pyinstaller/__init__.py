"""Where PyInstaller finds the hook below; the entry point pyinstaller40 in pyproject.toml leads here."""

from pathlib import Path


def get_hook_dirs() -> list[str]:
    return [str(Path(__file__).parent)]
