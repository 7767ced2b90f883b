"""Compiled kernels on disk: one file a kernel, named by a digest of everything that shapes its code.

Losing the cache costs a recompilation, never more: a file that is truncated, foreign or not the user's own is passed over with
a warning, and where nothing can be written nothing is.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import platformdirs

VARIABLE = "PAIRFOLD_CACHE_DIR"
_MAGIC = b"pairfold kernel 2\n"
_DIGEST_BYTES = 32
_LENGTH_BYTES = 8


def directory() -> Path:
    """Where kernels are kept: ``PAIRFOLD_CACHE_DIR``, else the platform's cache folder."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("pairfold", appauthor=False))


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of the package's own code, so that no kernel outlives the generator that made it."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in [package / "reductions.py", *sorted(p for part in ("formula", "plan", "codegen") for p in (package / part).glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def key(*parts: str) -> str:
    """The name of the kernel that these parts, and this version of Pairfold, determine."""
    return hashlib.sha256("\0".join([_sources(), *parts]).encode()).hexdigest()


def load(name: str) -> list[bytes] | None:
    """The parts of the kernel of that name; None where there is none that can be trusted."""
    path = directory() / name
    try:
        with path.open("rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                warnings.warn(
                    f"{path} belongs to another user: it is not loaded, and its kernel is compiled anew", RuntimeWarning, stacklevel=2
                )
                return None
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        warnings.warn(f"the kernel cache cannot be read ({error}): compiling anew", RuntimeWarning, stacklevel=2)
        return None
    digest, code = content[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES], content[len(_MAGIC) + _DIGEST_BYTES :]
    if not content.startswith(_MAGIC) or hashlib.sha256(name.encode() + code).digest() != digest:
        warnings.warn(f"{path} is damaged or not a kernel of Pairfold: compiling anew", RuntimeWarning, stacklevel=2)
        return None
    parts = []
    while code:
        end = _LENGTH_BYTES + int.from_bytes(code[:_LENGTH_BYTES], "little")
        parts.append(code[_LENGTH_BYTES:end])
        code = code[end:]
    return parts


def store(name: str, parts: Sequence[bytes]) -> None:
    """Keep a kernel. Readers see all of it or nothing."""
    folder, code = directory(), b"".join(len(part).to_bytes(_LENGTH_BYTES, "little") + part for part in parts)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(name.encode() + code).digest() + code)
            os.replace(temporary, folder / name)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        warnings.warn(
            f"the kernel cache {folder} cannot be written ({error}): kernels are compiled anew in each process; "
            "set PAIRFOLD_CACHE_DIR to a folder of yours",
            RuntimeWarning,
            stacklevel=2,
        )


def clear() -> None:
    """Remove all kernels from disk; other files in the folder stay."""
    if not directory().is_dir():
        return
    for path in directory().iterdir():
        if len(path.name) == 64 and set(path.name) <= set("0123456789abcdef"):
            path.unlink(missing_ok=True)


def _is_ours(status: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()
