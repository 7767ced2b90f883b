"""The cache on disk: losing it costs a compilation and a warning, never more."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from pairfold import Vi, Vj
from pairfold.runtime import cache, compile, cpu

X, Y = np.arange(12.0).reshape(4, 3), np.arange(15.0).reshape(5, 3)
SECOND_PROCESS = """
import numpy as np
from pairfold.runtime import cpu
compiled = []
original = cpu.compile_objects
cpu.compile_objects = lambda modules: compiled.append(1) or original(modules)
from pairfold import Vi, Vj
x, y = np.arange(12.0).reshape(4, 3), np.arange(15.0).reshape(5, 3)
found = (Vi(x) * Vj(y)).sum(axis=1)
np.testing.assert_allclose(found, (x[:, None] * y).sum(1))
print("compiled", len(compiled))
"""


def reduce():
    """Computes the same each time, as a new process would."""
    cpu._kernels.clear()
    found = (Vi(X) * Vj(Y)).sum(axis=1)
    np.testing.assert_allclose(found, (X[:, None] * Y).sum(1))


@pytest.fixture
def compilations(monkeypatch, tmp_path):
    """How often code was compiled, with a cache of its own."""
    made = []
    original = cpu.compile_objects
    monkeypatch.setattr(cpu, "compile_objects", lambda modules: made.append(1) or original(modules))
    monkeypatch.setenv("PAIRFOLD_CACHE_DIR", str(tmp_path / "kernels"))
    yield made
    cpu._kernels.clear()


def the_file() -> Path:
    (file,) = cache.directory().iterdir()
    return file


def silent(act):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        act()


def test_compiled_once(compilations):
    silent(reduce)
    silent(reduce)
    assert len(compilations) == 1
    assert the_file().stat().st_mode & 0o077 == 0
    assert cache.directory().stat().st_mode & 0o077 == 0


def test_phases_in_common_are_compiled_once(compilations, monkeypatch):
    """Kernels that pack the same and finish alike differ in their tiles alone; the newest objects are kept."""

    def compiled(act):
        before = set(compile._objects)
        act()
        return len(set(compile._objects) - before)

    monkeypatch.setattr(compile, "_objects", OrderedDict())
    angles = (Vi(X) * Vj(Y)).sum(-1)
    assert compiled(lambda: angles.sin().sum(axis=1)) > 3
    assert compiled(lambda: np.testing.assert_allclose(angles.cos().sum(axis=1), np.cos(X @ Y.T).sum(1))) == 1
    monkeypatch.setattr(compile, "OBJECTS_KEPT", 2)
    reduce()
    assert len(compile._objects) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"x",
        lambda content: b"#!/bin/sh\nexit 1\n",
        lambda content: b"\x00" * len(content),
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: content.replace(b"pairfold", b"foldpair", 1),
    ],
)
def test_damaged_files(damage, compilations):
    reduce()
    file = the_file()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    with pytest.warns(RuntimeWarning, match="damaged or not a kernel"):
        reduce()
    assert len(compilations) == 2
    assert the_file().read_bytes() == whole
    silent(reduce)
    assert len(compilations) == 2


def test_a_kernel_under_the_name_of_another(compilations):
    reduce()
    file = the_file()
    kernel = file.read_bytes()
    file.unlink()
    (Vi(X) * Vj(Y)).max(axis=1)
    the_file().write_bytes(kernel)
    cpu._kernels.clear()
    with pytest.warns(RuntimeWarning, match="damaged or not a kernel"):
        np.testing.assert_array_equal((Vi(X) * Vj(Y)).max(axis=1), (X[:, None] * Y).max(1))


def test_a_folder_in_the_place_of_a_file(compilations):
    reduce()
    file = the_file()
    file.unlink()
    file.mkdir()
    with pytest.warns(RuntimeWarning):
        reduce()
    assert len(compilations) == 2


def test_a_folder_that_cannot_be_written(compilations, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PAIRFOLD_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    with pytest.warns(RuntimeWarning, match="cannot be written.*PAIRFOLD_CACHE_DIR"):
        reduce()
    assert len(compilations) == 1


def test_a_full_disk(compilations, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        reduce()
    assert list(cache.directory().iterdir()) == []


def test_files_of_others_are_not_loaded(compilations, monkeypatch):
    reduce()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        reduce()
    assert len(compilations) == 2


def test_the_folder_is_made(compilations, monkeypatch, tmp_path):
    monkeypatch.setenv("PAIRFOLD_CACHE_DIR", str(tmp_path / "a" / "b" / "c"))
    silent(reduce)
    assert len(list((tmp_path / "a" / "b" / "c").iterdir())) == 1


def test_the_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("PAIRFOLD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.directory().name == "pairfold"
    if sys.platform == "linux":
        assert cache.directory() == tmp_path / "pairfold"


def test_names_tell_everything_apart():
    assert cache.key("a", "b") == cache.key("a", "b")
    assert len({cache.key("a", "b"), cache.key("ab"), cache.key("b", "a"), cache.key("a", "b", "")}) == 4


def test_kinds_of_kernels_have_names_of_their_own(compilations):
    x, y = Vi(X), Vj(Y)
    for act in (
        lambda: (x * y).sum(axis=1),
        lambda: (x * y).max(axis=1),
        lambda: (x * y + 1).sum(axis=1),
        lambda: (x * y + 2).sum(axis=1),
        lambda: (x * y).Kmin(1, axis=1),
        lambda: (x * y).Kmin(2, axis=1),
        lambda: (Vi(X.astype("f")) * Vj(Y.astype("f"))).sum(axis=1),
        lambda: (x[..., :2] * y[..., :2]).sum(axis=1),
    ):
        act()
    assert len(list(cache.directory().iterdir())) == len(compilations) == 8


# ---- several processes


def run(folder, **environment):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SECOND_PROCESS],
        env={**os.environ, "PAIRFOLD_CACHE_DIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_process_compiles_nothing(tmp_path):
    counts = []
    for _ in range(2):
        process = run(tmp_path)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        counts.append(out.split()[-1])
    assert counts == ["1", "0"]


def test_processes_at_once(tmp_path):
    processes = [run(tmp_path) for _ in range(4)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert [f.name.startswith(".new") for f in tmp_path.iterdir()] == [False]


def test_threads_at_once(compilations):
    cpu._kernels.clear()
    results, barrier = [], threading.Barrier(6)

    def work(k):
        barrier.wait()
        results.append((Vi(X) * Vj(Y) + k % 3).sum(axis=1) - 5 * (k % 3))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for found in results:
        np.testing.assert_allclose(found, (X[:, None] * Y).sum(1))
    assert len(results) == 6


def test_kernels_in_memory_are_bounded(compilations, monkeypatch):
    monkeypatch.setattr(cpu, "KERNELS_KEPT", 3)
    for k in range(2, 8):
        np.testing.assert_allclose((Vi(X) * Vj(Y) + k).max(axis=1), (X[:, None] * Y).max(1) + k)
    assert len(cpu._kernels) == 3
