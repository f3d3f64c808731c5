"""The project's own tools, for tests: as modules and as commands."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def tool_module(name: str) -> ModuleType:
    """``tools/NAME.py``, imported."""
    spec = importlib.util.spec_from_file_location(f"{name}_tool", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tool(name: str, *words: str) -> str:
    """What ``tools/NAME.py`` prints: the path of a program."""
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
