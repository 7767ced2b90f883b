"""How work is cut for a GPU, and what is said where there is none. What a GPU computes is tested in tests/gpu."""

from __future__ import annotations

import ctypes
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairfold.codegen.cuda import LOG2_LEAST_LANES, padded_length
from pairfold.formula.graph import apply, var
from pairfold.plan.plan import Numbers, make_plan
from pairfold.plan.schedule import Schedule
from pairfold.reductions import Sum
from pairfold.runtime import cuda

sizes = st.integers(1, 10**7) | st.integers(1, 300)
powers = st.sampled_from([32, 64, 128, 256])


few = st.sampled_from([1, 2, 4])


@given(rows=sizes, a_thread=few, threads=powers, slices=st.sampled_from([1, 2, 16]), most=st.sampled_from([1, 2, 8, 64]))
def test_lanes(rows, a_thread, threads, slices, most):
    schedule = Schedule("direct", threads, a_thread, 1, 64, slices=slices)
    shift = cuda.lanes_shift(rows, schedule, most)
    assert LOG2_LEAST_LANES <= shift and 1 << shift <= threads and threads >> shift <= most
    assert slices == 1 or shift >= 5  # lanes that share rows are of one warp
    a_block = (a_thread << shift) // slices
    if rows >= 8 * a_thread * threads:
        assert -(-rows // a_block) * a_block <= 1.25 * rows


@given(columns=sizes, blocks=st.integers(1, 10**6), groups=st.sampled_from([1, 2, 8, 64]), resident=st.integers(1, 8), threads=powers)
def test_every_column_belongs_to_one_group(columns, blocks, groups, resident, threads):
    splits = cuda.choose_splits(blocks, columns, groups, 132, resident, threads)
    chunk, tile, splits = cuda.cut_columns(columns, splits, groups, 512 // groups, 8)
    assert 1 <= splits <= cuda.LARGEST_GRID
    assert 1 <= tile <= chunk
    ends = [min(columns, (k + 1) * chunk) - min(columns, k * chunk) for k in (0, splits * groups - 1)]
    assert splits * groups * chunk >= columns and ends[0] > 0
    assert (splits - 1) * groups * chunk < columns  # no split is empty


def test_the_chip_is_full():
    for rows in (1, 100, 10_000, 1_000_000):
        blocks = -(-rows // 1024)
        splits = cuda.choose_splits(blocks, 1_000_000, 1, 132, 2, 256)
        assert blocks * splits >= 132 * 0.9


def test_no_round_has_few_threads():
    """391 blocks of 128 threads, of which a multiprocessor runs two at once, leave the third alone; blocks of 256 threads do not."""
    assert cuda.choose_splits(391, 100_000, 1, 132, 2, 128) == 2
    assert cuda.choose_splits(391, 100_000, 1, 132, 2, 256) == 1


@given(length=st.integers(1, 100), bytes=st.sampled_from([4, 8]))
def test_shared_loads_are_aligned(length, bytes):
    padded = padded_length(length, bytes)
    assert length <= padded and (padded * bytes) % min(16, bytes << (length - 1).bit_length()) == 0


@pytest.fixture
def fresh():
    cuda._driver.cache_clear()
    yield
    cuda._driver.cache_clear()


def _bindings(monkeypatch, driver):
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    package.bindings, bindings.driver = bindings, driver
    for name, module in (("cuda", package), ("cuda.bindings", bindings)):
        monkeypatch.setitem(sys.modules, name, module)


def test_no_bindings(monkeypatch, fresh):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(cuda.CudaError, match=r"need the package cuda-bindings .* pip install 'pairfold\[cuda\]'"):
        cuda._driver()


def test_no_driver(monkeypatch, fresh):
    def initialise(flags):
        raise RuntimeError("libcuda.so.1 was not found")

    _bindings(monkeypatch, types.SimpleNamespace(cuInit=initialise))
    remedy = r"there is no NVIDIA driver here .* compute on the CPU.*pairfold\.backend\('cpu'\).*x\.cpu\(\)"
    with pytest.raises(cuda.CudaError, match=remedy):
        cuda._driver()


class _Status:
    def __init__(self, name="CUDA_SUCCESS"):
        self.name = name

    def __bool__(self):
        return self.name != "CUDA_SUCCESS"


class _Attributes:
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 0
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 1
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 2


def _driver(capability, **more):
    return types.SimpleNamespace(
        cuInit=lambda flags: (_Status(),),
        cuDeviceGetCount=lambda: (_Status(), 1),
        cuDeviceGet=lambda number: (_Status(), number),
        cuDeviceGetAttribute=lambda which, handle: (_Status(), [*capability, 132][which]),
        cuDevicePrimaryCtxRetain=lambda handle: (_Status(), 1),
        CUdevice_attribute=_Attributes,
        **more,
    )


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), 75), ((9, 0), 90), ((10, 9), 103), ((13, 0), 121)])
def test_capability(capability, expected, monkeypatch, fresh):
    _bindings(monkeypatch, _driver(capability))
    cuda.device.cache_clear()
    assert cuda.device(0).capability == expected
    cuda.device.cache_clear()


def test_a_driver_too_old(monkeypatch, fresh):
    statuses = types.SimpleNamespace(CUDA_ERROR_UNSUPPORTED_PTX_VERSION=_Status("CUDA_ERROR_UNSUPPORTED_PTX_VERSION"))
    refused = {"cuLibraryLoadData": lambda *_: (statuses.CUDA_ERROR_UNSUPPORTED_PTX_VERSION, None)}
    _bindings(monkeypatch, _driver((9, 0), CUresult=statuses, cuDriverGetVersion=lambda: (_Status(), 11080), **refused))
    formula = apply("sqdist", var("i", 0, 3), var("j", 1, 3))
    plan = make_plan((formula,), Sum(), Numbers(32, ("float32",) * 2, "float32"), cuda.MACHINE)
    with pytest.raises(cuda.CudaError, match=r"made for CUDA 11.8, but PTX \d.\d for this GPU needs CUDA \d+.\d: update the driver"):
        cuda.Kernel(plan, 120, frozenset())


def test_a_gpu_too_old(monkeypatch, fresh):
    _bindings(monkeypatch, _driver((6, 1)))
    cuda.device.cache_clear()
    with pytest.raises(cuda.CudaError, match="compute capability 6.1; formulas need 7.5 or later"):
        cuda.device(0)


def test_a_gpu_that_is_not_there(monkeypatch, fresh):
    _bindings(monkeypatch, _driver((9, 0)))
    cuda.device.cache_clear()
    for number in (1, 7, -1):
        with pytest.raises(cuda.CudaError, match=f"there is no GPU of number {number}: there is one, cuda:0"):
            cuda.device(number)


def test_a_call_fills_in_addresses(monkeypatch, fresh):
    """Each phase gets its own words, with where the operands and scratch memory lie, the last one with where the results do, which are
    asked for when the others are queued; the template stays as it was.
    """
    launches, kept = [], []

    def launch(config, function, parameters, extra):
        shape = (ctypes.c_uint * 7).from_address(config)
        stream, *attributes = (ctypes.c_uint64 * 3).from_address(config + 32)
        assert attributes == [0, 0] and extra is None
        words = ctypes.cast(ctypes.cast(parameters, ctypes.POINTER(ctypes.c_void_p))[0], ctypes.POINTER(ctypes.c_int64))
        launches.append((function, tuple(shape), stream, words[:25]))
        return 0

    def current(place):
        place._obj.value = 1
        return 0

    def allocate(bytes):
        kept.append(bytes)
        return object(), 1 << 20

    _bindings(monkeypatch, _driver((9, 0)))
    monkeypatch.setattr(cuda, "_direct", lambda driver: (current, launch))
    template = (*range(100, 114), 0, 12, 4, 70, 0, 8, 2, 71, 0, 0, 0)  # two operands and three outputs
    phases = [cuda.Phase("tile", 5, (2, 3, 4), 256, 1024, template), cuda.Phase("finish", 6, (1, 1, 1), 128, 0, (-1, *template[1:]))]
    call = cuda.Call(cuda.Device(0, 90, 132, 1), phases, (0, 100, 0, 8), None)
    queue = cuda.Queue(0, 9, allocate, None, None)
    for addresses, outputs in (([1000, 2000], [3000, 4000, 5000]), ([1001, 2001], [3001, 4001, 5001])):
        launches.clear()

        def results(outputs=outputs):
            assert len(launches) == 1
            return outputs

        call(addresses, results, queue)
        assert [(f, shape, stream) for f, shape, stream, _ in launches] == [
            (5, (2, 3, 4, 256, 1, 1, 1024), 9),
            (6, (1, 1, 1, 128, 1, 1, 0), 9),
        ]
        for first, (*_, words) in zip((100, -1), launches, strict=True):
            # Rows and parameters have no scratch memory here; columns and partials have, aligned.
            head = [first, 101, 102, 103, 104, 105, 1 << 20, 107, (1 << 20) + 128, *range(109, 114)]
            assert words[:22] == [*head, addresses[0], 12, 4, 70, addresses[1], 8, 2, 71]
        assert launches[0][-1][22:] == [0, 0, 0] and launches[1][-1][22:] == outputs
    assert kept == [192, 192]
