"""The thread pool: results do not depend on it, and it never gets in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

import pairfold
from pairfold import Vi, Vj
from pairfold.runtime import threads


@pytest.fixture(autouse=True)
def default_threads():
    yield
    pairfold.set_num_threads(None)


def gauss(x, y):
    return (-(Vi(x) - Vj(y)).sqnorm2()).exp()


REDUCED = {
    "sum": lambda k, b: k.sum(axis=1),
    "product": lambda k, b: k @ b,
    "logsumexp": lambda k, b: k.logsumexp(axis=0),
    "sumsoftmaxweight": lambda k, b: k.sumsoftmaxweight(Vj(b), axis=1),
    "min_argmin": lambda k, b: np.stack(k.min_argmin(axis=1)),
    "Kmin": lambda k, b: k.Kmin(5, axis=1),
    "prod": lambda k, b: (k + 0.5).prod(axis=1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("shape", [(3001, 2003), (5, 60_000)])
def test_results_do_not_depend_on_threads(name, shape, dtype, random):
    x, y, b = (random.normal(size=s).astype(dtype) for s in ((shape[0], 3), (shape[1], 3), (shape[1], 2)))
    found = []
    for number in (1, 2, 3, 7):
        pairfold.set_num_threads(number)
        found.append(REDUCED[name](gauss(x, y), b).tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("number", [0, -1, 1.0, 2.5, "2", True, float("nan")])
def test_numbers_that_are_refused(number):
    with pytest.raises(ValueError, match="must be a whole number of at least 1, not"):
        pairfold.set_num_threads(number)


def test_numbers_that_are_taken(monkeypatch):
    monkeypatch.delenv("PAIRFOLD_NUM_THREADS", raising=False)
    pairfold.set_num_threads(5)
    assert pairfold.get_num_threads() == 5
    pairfold.set_num_threads(None)
    assert pairfold.get_num_threads() == threads.available_cores()


def test_the_environment(monkeypatch):
    monkeypatch.setenv("PAIRFOLD_NUM_THREADS", "3")
    assert pairfold.get_num_threads() == 3
    pairfold.set_num_threads(2)
    assert pairfold.get_num_threads() == 2
    pairfold.set_num_threads(None)
    for wrong in ("0", "-1", "two", "1.5", "²"):
        monkeypatch.setenv("PAIRFOLD_NUM_THREADS", wrong)
        with pytest.raises(ValueError, match="PAIRFOLD_NUM_THREADS is .*positive whole number"):
            pairfold.get_num_threads()


def test_many_python_threads(random):
    cases = []
    for k in range(12):
        x, y = random.normal(size=(200 + 97 * k, 3)), random.normal(size=(2500 - 100 * k, 3))
        cases.append((x, y, np.exp(-((x[:, None] - y) ** 2).sum(-1)).sum(1)))
    failures = []

    def work(k):
        try:
            for turn in range(10):
                x, y, wanted = cases[(k + turn) % len(cases)]
                if k == 0:
                    pairfold.set_num_threads(1 + turn % 4)
                np.testing.assert_allclose(gauss(x, y).sum(axis=1), wanted, rtol=1e-10)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not any(w.is_alive() for w in workers)
    assert not failures


def test_the_interpreter_is_free_during_a_call(random):
    x = random.normal(size=(20_000, 3)).astype(np.float32)
    gauss(x[:10], x[:10]).sum(axis=1)
    done, ticks = threading.Event(), []

    def call():
        gauss(x, x).sum(axis=1)
        gauss(x, x).logsumexp(axis=1)
        done.set()

    worker = threading.Thread(target=call)
    worker.start()
    while not done.is_set() and len(ticks) < 100_000:
        ticks.append(1)
        time.sleep(1e-4)
    worker.join()
    assert len(ticks) > 5


# ---- processes of their own


def python(code: str, timeout: float = 60, **environment) -> str:
    environment = {**os.environ, **environment}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_fork(how):
    python(
        f"""
import os, warnings, multiprocessing
import numpy as np
from pairfold import Vi, Vj
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks among threads
x = np.random.default_rng(0).normal(size=(3000, 3))
def compute(_=0):
    return (-(Vi(x) - Vj(x)).sqnorm2()).exp().sum(axis=1), (Vi(x) * Vj(x)).max(axis=0)
before = compute()
def child(_=0):
    for a, b in zip(before, compute()):
        np.testing.assert_array_equal(a, b)
    (Vi(x) - Vj(x)).abs().max(axis=1)  # one that must be compiled
    return True
if {how!r} == "os.fork":
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
else:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(child, range(4)))
child()
"""
    )


INTERRUPTED = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it would be ignored
import numpy as np
from pairfold import Vi, Vj
LIBRARY
x = np.random.default_rng(0).normal(size=(SIZE, DIM)).astype(np.float32)
a, b = Vi(GIVE(x)), Vj(GIVE(x))
CALL(Vi(GIVE(x[:9])), Vj(GIVE(x[:9])))  # compiled before the clock starts
sent = []
def interrupt():
    time.sleep(0.5)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    CALL(a, b)
except KeyboardInterrupt:
    print(time.perf_counter() - sent[0])
else:
    raise SystemExit("was not interrupted")
y = np.arange(30.0).reshape(10, 3)
np.testing.assert_allclose((Vi(y) * Vj(y)).sum(axis=1), (y[:, None] * y).sum(1))
z = x[:2000, :3]
np.testing.assert_allclose((Vi(z) * Vj(z)).sum(axis=1), (z[:, None] * z).sum(1), rtol=1e-3, atol=1e-2)
"""
CALLS = {
    "sum": ("lambda a, b: (-(a - b).sqnorm2()).exp().sum(1)", 3_000_000, 3),
    "wide": ("lambda a, b: (-(a - b).sqnorm2()).exp().sum(1)", 200_000, 1000),
    "nearest": ("lambda a, b: (a - b).sqnorm2().argKmin(5, 1)", 3_000_000, 3),
    "logsumexp": ("lambda a, b: (a - b).sqnorm2().logsumexp(0)", 3_000_000, 3),
}


@pytest.mark.parametrize(
    ("name", "number", "give"),
    [("sum", "1", "numpy"), ("sum", "2", "torch"), ("wide", "2", "numpy"), ("nearest", "1", "numpy"), ("nearest", "2", "numpy"),
     ("logsumexp", "2", "numpy")],
)  # fmt: skip
def test_interrupt(name, number, give):
    if give == "torch":
        pytest.importorskip("torch")
    call, size, dim = CALLS[name]
    code = INTERRUPTED.replace("SIZE", str(size)).replace("DIM", str(dim)).replace("CALL", f"({call})")
    code = code.replace("LIBRARY", "import torch" if give == "torch" else "").replace("GIVE", "torch.from_numpy" if give == "torch" else "")
    assert float(python(code, PAIRFOLD_NUM_THREADS=number)) < 2  # the aim is half a second; the machine may be busy


def test_interrupt_from_outside():
    """As Ctrl-C in a terminal: the signal is sent by another process."""
    code = INTERRUPTED.replace("SIZE", "3000000").replace("DIM", "3").replace("CALL", f"({CALLS['sum'][0]})")
    code = code.replace("LIBRARY", "").replace("GIVE", "").replace("os.kill(os.getpid(), signal.SIGINT)", "print('now', flush=True)")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert float(out) < 2


def test_the_process_ends_after_use():
    start = time.perf_counter()
    python("import numpy as np, pairfold; x = np.ones((3000, 3)); (pairfold.Vi(x) * pairfold.Vj(x)).sum(axis=1)")
    assert time.perf_counter() - start < 30


# ---- quiet


def test_import_is_quiet(tmp_path):
    out = python(
        """
import sys, threading, os
before = set(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else set()
import numpy
native = len(os.listdir("/proc/self/task")) if before else 0
import pairfold
assert "torch" not in sys.modules and "tqdm" not in sys.modules and "scipy" not in sys.modules
assert threading.active_count() == 1
assert not before or len(os.listdir("/proc/self/task")) == native
x = pairfold.Vi(numpy.ones((3, 2))) * 2
repr(x)
print(threading.active_count())
""",
        PAIRFOLD_CACHE_DIR=str(tmp_path / "kernels"),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert out == "1\n"
    assert list(tmp_path.iterdir()) == []


def test_numpy_users_import_no_torch():
    compute = "x = np.ones((3, 3)); (pairfold.Vi(x) * pairfold.Vj(x)).sum(1)"
    python(f"import sys, numpy as np, pairfold; {compute}; assert 'torch' not in sys.modules")


# ---- memory

FLAT = """
import gc, os
import numpy as np, psutil
from pairfold import Vi, Vj
random = np.random.default_rng(0)
pool = random.normal(size=(400, 3))
def call(k):
    x, y = pool[: 1 + k * 7 % 399], pool[: 1 + k * 13 % 397]
    lazy = (Vi(x) - Vj(y)).sqnorm2() * (0.1 + k / 3)
    if k % 3 == 0:
        lazy.sum(axis=k % 2)
    elif k % 3 == 1:
        lazy.argKmin(1 + (len(y) > 1), axis=1)
    else:
        lazy.logsumexp(axis=0)
for k in range(1500):
    call(k)
gc.collect()
before = psutil.Process().memory_info().rss
for k in range(1500, 6500):
    call(k)
gc.collect()
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def test_memory_is_flat_over_calls():
    assert float(python(FLAT)) < 3


TORCH_FLAT = """
import gc
import psutil, torch
from pairfold import Vi, Vj
def call(k):
    x, y = torch.randn(1 + k * 7 % 199, 3, requires_grad=True), torch.randn(1 + k * 13 % 197, 3)
    torch.autograd.grad((-(Vi(x) - Vj(y)).sqnorm2() * (0.1 + k / 3)).exp().sum(1).sum(), x)
for k in range(500):
    call(k)
gc.collect()
before = psutil.Process().memory_info().rss
for k in range(500, 2500):
    call(k)
gc.collect()
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def test_memory_is_flat_over_derivatives():
    pytest.importorskip("torch")
    assert float(python(TORCH_FLAT)) < 3


def test_memory_is_linear(random):
    x = random.normal(size=(20_000, 3)).astype(np.float32)
    gauss(x[:10], x[:10]).sum(axis=1)
    process, peak, done = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(1e-3)

    watcher = threading.Thread(target=watch)
    watcher.start()
    gauss(x, x).sum(axis=1)
    done.set()
    watcher.join()
    assert peak[0] - before < 20 * 2**20  # the matrix has 1 600 MB
