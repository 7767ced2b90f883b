"""`import pykeops` served by Pairfold: a finder in front of all others."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = __name__.rpartition(".")[0]  # pairfold.pykeops
# Of each module of KeOps the one here that it is; of those in brackets the names alone: modules that lie elsewhere in KeOps.
MODULES = {
    "pykeops": "", "pykeops.config": "config", "pykeops.torch": "torch", "pykeops.numpy": "numpy",
    "pykeops.torch.utils": "torch.utils", "pykeops.numpy.utils": "numpy.utils",
    "pykeops.torch.cluster": "torch.cluster", "pykeops.numpy.cluster": "numpy.cluster",
    "pykeops.common": "(common)", "pykeops.common.utils": "(common)", "pykeops.common.parse_type": "(common)",
    "pykeops.common.get_options": "(common)", "pykeops.common.operations": "(solve)", "pykeops.common.lazy_tensor": "(common)",
    "pykeops.common.keops_io": "(common)", "pykeops.common.gpu_utils": "(common)",
    "keopscore": "keopscore", "keopscore.config": "(config)", "keopscore.config.config": "(config)",
    "keopscore.config.cuda": "(config)", "keopscore.config.openmp": "(config)", "keopscore.config.base_config": "(config)",
}  # fmt: skip
for _framework in ("torch", "numpy"):
    MODULES |= {f"pykeops.{_framework}.{name}": f"({_framework})" for name in ("generic", "lazytensor", "operations", "test_install")}
    MODULES |= {f"pykeops.{_framework}.generic.{name}": f"({_framework})" for name in ("generic_red", "generic_ops")}
    MODULES |= {f"pykeops.{_framework}.lazytensor.LazyTensor": f"({_framework})"}
    MODULES |= {f"pykeops.{_framework}.cluster.{name}": f"({_framework}.cluster)" for name in ("grid_cluster", "matrix", "utils")}


class Finder(DistributionFinder, Loader):
    """Finds the modules of KeOps here."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in MODULES:
            if fullname.partition(".")[0] in ("pykeops", "keopscore"):
                raise ModuleNotFoundError(f"{fullname} is a part of KeOps that Pairfold has no counterpart of", name=fullname)
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in MODULES)
        return ModuleSpec(fullname, self, origin=HERE, is_package=is_package)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        ours = MODULES[spec.name]
        if ours.startswith("("):
            return None  # a new one, filled below
        module = import_module(f"{HERE}.{ours}" if ours else HERE)
        self._own[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        ours = MODULES[spec.name]
        if not ours.startswith("("):
            module.__spec__ = self._own[spec.name]  # the import system has put the alias's in its place
            return
        source, within = import_module(f"{HERE}.{ours[1:-1]}"), submodules(spec.name)
        for name, value in vars(source).items():
            if not name.startswith("__") and f"{spec.name}.{name}" not in MODULES:
                setattr(module, name, value)

        def look_up(name: str) -> Any:
            return within(name) if f"{spec.name}.{name}" in MODULES else getattr(source, name)

        module.__getattr__ = look_up  # type: ignore[method-assign]

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterator[Distribution]:
        """What `importlib.metadata` is to know of: that pykeops is there, and at which version."""
        names = ("pykeops", "keopscore")
        return (_Named(name) for name in names if context is None or context.name is None or context.name.lower() == name)

    def __init__(self) -> None:
        self._own: dict[str, Any] = {}


class _Named(Distribution):
    """A distribution that is nothing but a name and the version that stands in for it."""

    def __init__(self, called: str):
        self.called = called

    def read_text(self, filename: str) -> str | None:
        version = import_module(HERE).__version__
        return f"Metadata-Version: 2.1\nName: {self.called}\nVersion: {version}\n" if filename in ("METADATA", "PKG-INFO") else None

    def locate_file(self, path: Any) -> Path:
        return Path(__file__).parent / path


_finder = Finder()


def submodules(package: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package of KeOps: its modules are there without an import of their own, since KeOps imports them itself."""

    def find(name: str) -> Any:
        full = f"{package}.{name}"
        if full not in MODULES:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        ours = MODULES[full].strip("()")
        return import_module(full if _finder in sys.meta_path else f"{HERE}.{ours}" if ours else HERE)

    return find


def install() -> None:
    """Let ``import pykeops`` and ``import keopscore`` find Pairfold's from now on, whether KeOps is installed or not.

    Modules that have imported the real ones before keep them; a warning says so.

    Examples
    --------
    >>> import pairfold.pykeops
    >>> pairfold.pykeops.install()
    >>> from pykeops.numpy import LazyTensor
    >>> LazyTensor.__module__
    'pairfold.pykeops.numpy'
    >>> pairfold.pykeops.uninstall()
    """
    if _finder in sys.meta_path:
        return
    loaded = [name for name in sys.modules if name.partition(".")[0] in ("pykeops", "keopscore")]
    real = [name for name in loaded if getattr(sys.modules[name], "__file__", None) and "pairfold" not in str(sys.modules[name].__file__)]
    if real:
        warnings.warn("pykeops was imported before pairfold.pykeops.install(): what has imported it keeps it", RuntimeWarning, stacklevel=2)
    for name in loaded:
        del sys.modules[name]
    sys.meta_path.insert(0, _finder)
    for name in ("pykeops", "keopscore"):
        if name in loaded:  # an import of it may be under way, from `path`
            import_module(name)


def uninstall() -> None:
    """Undo `install`: ``import pykeops`` finds what is installed, from now on."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
        for name in [name for name in sys.modules if name in MODULES]:
            del sys.modules[name]
