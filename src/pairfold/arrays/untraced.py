"""torch.compile is to run Pairfold as it is, and not to look into it: its tracer is told so as soon as it is imported.

It is imported when somebody compiles for the first time, which may be long after Pairfold; to import it here would take a second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

TRACER = "torch._dynamo"
OURS = __name__.split(".", 1)[0]


def keep_out() -> None:
    """Have the tracer leave our functions alone, now or when it comes."""
    if TRACER in sys.modules:
        _leave_alone()
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


def _leave_alone() -> None:
    for place in ("trace_rules", "skipfiles"):  # the latter until PyTorch 2.1
        try:
            import_module(f"{TRACER}.{place}").add(OURS)
        except (ImportError, AttributeError):
            continue
        return


class _Watch(MetaPathFinder):
    """Sees the tracer being imported, once."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module as anybody else finds it, which tells us when it is there."""
        if name != TRACER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _leave_alone()

            loader.exec_module = exec_module
        return spec
