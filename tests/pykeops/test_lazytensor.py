"""LazyTensors with KeOps's conventions, against dense float64 NumPy."""

from __future__ import annotations

import math
from typing import Union

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from pairfold.pykeops.common import GenericLazyTensor

from .helpers import FRAMEWORKS, array, close, clouds, module

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)


# ---- making them


@frameworks
def test_of_arrays(framework, random):
    c = clouds(framework, random)
    lazy = c.keops.LazyTensor
    assert (c.x_i.shape, c.x_i._shape, c.x_i.ndim, c.x_i.ni, c.x_i.nj, c.x_i.axis) == ((7, 1, 3), (7, 1, 3), 3, 7, None, 0)
    assert (c.y_j.shape, c.y_j.ni, c.y_j.nj, c.y_j.axis, c.y_j.dim()) == ((1, 9, 3), None, 9, 1, 3)
    positional = (lazy(c.x, 0) * lazy(c.y, axis=1)).sum(axis=1)
    close(positional, (c.dense_x * c.dense_y).sum(1))
    close((c.keops.Vi(c.x) * c.keops.Vj(c.y)).sum(axis=0), (c.dense_x * c.dense_y).sum(0))
    p = random.standard_normal(3)
    for parameter in (array(framework, p), array(framework, p)[None, None], list(p), c.keops.Pm(list(p)), c.keops.Pm(array(framework, p))):
        close((c.x_i * parameter - c.y_j).sum(axis=1), (c.dense_x * p - c.dense_y).sum(1))
    for number in (0.7, -3, np.float64(0.7), array(framework, np.array(0.7))):
        close((c.x_i * number - c.y_j).sum(axis=1), (c.dense_x * float(number) - c.dense_y).sum(1))
    close((c.keops.Pm(0.7) * c.x_i - c.y_j).sum(axis=1), (c.dense_x * 0.7 - c.dense_y).sum(1))


@frameworks
def test_shape_drops_a_last_one(framework, random):
    c = clouds(framework, random)
    K = (c.x_i - c.y_j).sum(-1)
    assert (K.shape, K._shape, K.ndim, K.dim()) == ((7, 9), (7, 9, 1), 1, 3)
    assert hasattr(K, "_shape") and not hasattr(c.x, "_shape")
    batched = clouds(framework, random, batch=(2, 4))
    assert batched.x_i._shape == (2, 4, 7, 1, 3) and batched.x_i.batchdims == (2, 4) and batched.x_i.nbatchdims == 2
    assert (batched.x_i | batched.y_j).shape == (2, 4, 7, 9)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@frameworks
def test_dtypes(framework, dtype, random):
    c = clouds(framework, random, dtype=dtype)
    K = (-((c.x_i - c.y_j) ** 2).sum(-1)).exp()
    assert K.dtype == dtype == K._dtype
    found = K.sum(axis=1)
    assert str(found.dtype).removeprefix("torch.") == dtype
    expected = np.exp(-((c.dense_x - c.dense_y) ** 2).sum(-1)).sum(1, keepdims=True)
    close(found, expected, {"float16": 2e-3, "float32": 1e-5, "float64": 1e-12}[dtype])
    assert str(K.argmin(axis=1).dtype).removeprefix("torch.") == "int64"


@frameworks
def test_errors(framework, random):
    c = clouds(framework, random)
    lazy = c.keops.LazyTensor
    with pytest.raises(ValueError, match="needs its axis"):
        lazy(c.x)
    with pytest.raises(ValueError, match="tells it"):
        lazy(c.x[:, None], axis=0)
    with pytest.raises(ValueError, match="three whole numbers"):
        lazy((0, 3))
    with pytest.raises(TypeError, match="made from"):
        lazy("x")
    with pytest.raises(ValueError, match="do not fit"):
        c.x_i * c.y_j[:2]
    with pytest.raises(ValueError, match="do not broadcast"):
        c.x_i + lazy(c.x[1:, None])
    with pytest.raises(ValueError, match="runs along axis 0"):
        c.x_i.logsumexp(axis=2)
    with pytest.raises(ValueError, match="one number for each pair"):
        (c.x_i * c.y_j) @ c.y
    with pytest.raises(ValueError, match="last axis"):
        c.x_i[0, :, :]
    with pytest.raises(TypeError, match="no option 'axes'"):
        c.x_i.sum(axis=0, axes=1)
    with pytest.raises(ValueError, match="backend must be"):
        c.x_i.sum(axis=0, backend="TPU")


@frameworks
def test_use_in_python(framework, random):
    c = clouds(framework, random)
    lazy = c.keops.LazyTensor
    assert isinstance(c.x_i - c.y_j, lazy) and isinstance(c.x_i, GenericLazyTensor)
    assert lazy in Union[np.ndarray, lazy].__args__  # noqa: UP007  # as programs write it
    assert bool(c.x_i == c.y_j) and bool(c.x_i < c.y_j) is True
    assert hasattr(c.x_i, "__GenericLazyTensor__")
    K = c.x_i | c.y_j
    before = K
    K += 1
    K -= 0.5
    K *= 2
    K /= 3
    close(K.sum(axis=1), (((c.dense_x * c.dense_y).sum(-1) + 0.5) * 2 / 3).sum(1)[:, None])
    assert before is not K
    close(type(K).sinc(K).sum(axis=1), np.sinc(((c.dense_x * c.dense_y).sum(-1) + 0.5) * 2 / 3).sum(1)[:, None])
    assert "formula: " in str(K) and K.tools.LazyTensor is lazy
    assert K.Genred is c.keops.Genred
    with pytest.raises(TypeError):
        iter(K)


@frameworks
def test_attributes(framework, random):
    c = clouds(framework, random)
    K = (c.x_i - c.y_j).sqdist([1.0, 2.0, 3.0]) * 0.3
    assert K.formula.count("Var(") == 4
    first, second, third, fourth = K.variables
    assert first is c.x_i.variables[0] and second is c.y_j.variables[0]
    assert third.tolist() == [1.0, 2.0, 3.0] and fourth.tolist() == [0.3]
    close(c.keops.Genred(K.formula, [], axis=1)(*K.variables), np.asarray(K.sum(axis=1)))


# ---- operators: by name, a LazyTensor of x and y, and what it is

BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "power": lambda x, y: abs(x) ** y,
    "less": lambda x, y: x < y,
    "less or equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater or equal": lambda x, y: x >= y,
    "equal": lambda x, y: x == y,
    "not equal": lambda x, y: x != y,
}


@pytest.mark.parametrize("name", BINARY)
@frameworks
def test_operators(framework, name, random):
    c = clouds(framework, random)
    operate = BINARY[name]
    expected = operate(c.dense_x, c.dense_y).sum(1)
    close(operate(c.x_i, c.y_j).sum(axis=1), expected)
    if name != "equal" or framework == "numpy":  # raw arrays on either side
        close(operate(c.x_i, c.y[None]).sum(axis=1), expected)
        close(operate(c.x[:, None], c.y_j).sum(axis=1), expected)
    for number in (0.3, 2, -1.5):
        if name != "power" or number > 0:
            close(operate(c.x_i, number).sum(axis=0), operate(c.dense_x, number).sum(0).reshape(1, 3))
            close(operate(number, c.x_i).sum(axis=0), operate(number, c.dense_x).sum(0).reshape(1, 3))


@pytest.mark.parametrize("exponent", [2, 3, -1, 0, 0.5, -0.5, 1.7])
@frameworks
def test_powers_of_numbers(framework, exponent, random):
    c = clouds(framework, random)
    K = (c.x_i - c.y_j).abs() + 0.5
    close((K**exponent).sum(axis=1), ((abs(c.dense_x - c.dense_y) + 0.5) ** float(exponent)).sum(1))
    close(K.power(exponent).sum(axis=1), ((abs(c.dense_x - c.dense_y) + 0.5) ** float(exponent)).sum(1))


UNARY = {
    "exp": np.exp, "log": lambda v: np.log(v), "sqrt": np.sqrt, "rsqrt": lambda v: v**-0.5, "square": np.square,
    "abs": np.abs, "sign": np.sign, "step": lambda v: (v >= 0) * 1.0, "relu": lambda v: np.maximum(v, 0), "sin": np.sin, "cos": np.cos,
    "sinc": np.sinc, "sinxdivx": lambda v: np.sin(v) / v, "xlogx": lambda v: v * np.log(v), "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "normalize": lambda v: v / np.sqrt((v**2).sum(-1, keepdims=True)),
    "sqnorm2": lambda v: (v**2).sum(-1, keepdims=True), "norm2": lambda v: np.sqrt((v**2).sum(-1, keepdims=True)),
    "tanh": np.tanh, "erf": special.erf, "sigmoid": special.expit,
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
@frameworks
def test_functions(framework, name, random):
    c = clouds(framework, random)
    signed = name in ("abs", "sign", "step", "relu")
    lazy = (c.x_i * c.y_j).sin() if signed else ((c.x_i * c.y_j).sin() + 1.5) / 3
    dense = np.sin(c.dense_x * c.dense_y) if signed else (np.sin(c.dense_x * c.dense_y) + 1.5) / 3
    close(getattr(lazy, name)().sum(axis=1), UNARY[name](dense).sum(1))
    assert getattr(lazy, name).__doc__


@frameworks
def test_functions_of_several(framework, random):
    c = clouds(framework, random)
    x, y = c.dense_x, c.dense_y
    a, b = random.standard_normal(3), random.standard_normal(3)
    lazy_a = c.keops.Pm(array(framework, a))
    cases = [
        (c.x_i.clamp(-1, 1) * c.y_j, np.clip(x, -1, 1) * y),
        (c.x_i.clamp(-0.3, lazy_a) * c.y_j, np.clip(x, -0.3, a) * y),
        ((c.x_i - c.y_j).ifelse(c.x_i, 0.5), np.where(x - y >= 0, x, 0.5)),
        ((c.x_i - c.y_j).mod(0.7), np.mod(x - y, 0.7)),
        ((c.x_i - c.y_j).mod(1, 0.2), np.mod(x - y - 0.2, 1) + 0.2),
        ((c.x_i - c.y_j).round(1), np.round(x - y, 1)),
        (c.x_i.atan2(c.y_j), np.arctan2(x, y)),
        (c.x_i.sqdist(c.y_j), ((x - y) ** 2).sum(-1, keepdims=True)),
        (c.x_i | c.y_j, (x * y).sum(-1, keepdims=True)),
        (c.x[:, None] | c.y_j, (x * y).sum(-1, keepdims=True)),
        ((c.x_i - c.y_j).weightedsqnorm(list(b**2)), (b**2 * (x - y) ** 2).sum(-1, keepdims=True)),
        (c.x_i.weightedsqdist(c.y_j, 0.4), 0.4 * ((x - y) ** 2).sum(-1, keepdims=True)),
        ((c.x_i - c.y_j).norm(-1), np.linalg.norm(x - y, axis=-1, keepdims=True)),
        ((c.x_i - c.y_j).norm(dim=2), np.linalg.norm(x - y, axis=-1, keepdims=True)),
        (c.x_i.tensorprod(c.y_j), (x[..., :, None] * y[..., None, :]).reshape(7, 9, 9)),
        (c.x_i.tensorprod(c.y_j).matvecmult(lazy_a), x * (y @ a)[..., None]),
        (lazy_a.vecmatmult(c.x_i.tensorprod(c.y_j)), (x @ a)[..., None] * y),
        (c.x_i.concat(c.y_j), np.concatenate(np.broadcast_arrays(x, y), -1)),
        (c.keops.LazyTensor.cat((c.x_i, c.y_j, c.x_i), -1), np.concatenate(np.broadcast_arrays(x, y, x), -1)),
        (c.keops.LazyTensor.concatenate((c.x_i, c.y_j), axis=2), np.concatenate(np.broadcast_arrays(x, y), -1)),
        (c.x_i.difference_matrix(c.y_j), (x[..., :, None] - y[..., None, :]).reshape(7, 9, 9)),
        ((c.x_i * c.y_j).sum(-1), (x * y).sum(-1, keepdims=True)),
        ((c.x_i * c.y_j).sum(dim=2), (x * y).sum(-1, keepdims=True)),
        ((c.x_i * c.y_j).max(-1), (x * y).max(-1, keepdims=True)),
        ((c.x_i * c.y_j).min(axis=2), (x * y).min(-1, keepdims=True)),
        ((c.x_i * c.y_j).argmin(-1), (x * y).argmin(-1)[..., None]),
        ((c.x_i * c.y_j).argmax(-1), (x * y).argmax(-1)[..., None]),
        ((c.x_i * c.y_j).abs().sum().exp(), np.exp(abs(x * y).sum(-1, keepdims=True))),
        (c.x_i[0] * c.y_j, x[..., :1] * y),
        (c.x_i[1:] * c.y_j[:, :, :2], x[..., 1:] * y[..., :2]),
        (c.x_i[:, :, 2] * c.y_j[:1], x[..., 2:] * y[..., :1]),
        (c.x_i.elem(1) + c.y_j.extract(1, 2), x[..., 1:2] + y[..., 1:]),
        (c.x_i.keops_kron(c.y_j, [3], [3]), (x[..., :, None] * y[..., None, :]).reshape(7, 9, 9)),
        (c.x_i.keops_tensordot(c.y_j, (3,), (3,), (0,), (0,)), (x * y).sum(-1, keepdims=True)),
        (c.x_i.factorize(c.x_i).auto_factorize() * c.y_j, x * y),
    ]
    for k, (lazy, dense) in enumerate(cases):
        assert lazy._shape == dense.shape, k
        close(lazy.sum_reduction(axis=1), dense.sum(1))


@frameworks
def test_one_hot_and_splines(framework, random):
    keops = module(framework)
    labels = keops.LazyTensor(array(framework, np.array([2.0, 0.0, 1.0]))[:, None, None])
    close(labels.one_hot(3).sum(axis=1), np.eye(3)[[2, 0, 1]])
    knots, t = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.25, 1.5])
    found = keops.LazyTensor(array(framework, knots)).bspline(keops.LazyTensor(array(framework, t)[:, None, None]), 1).sum(axis=1)
    close(found, np.maximum(0, 1 - abs(t[:, None] - knots[1:3])))


@frameworks
def test_names_of_operations(framework, random):
    c = clouds(framework, random, d=1)
    found = (c.x_i * c.y_j).unary("ComplexExp1j", dimres=2)
    assert found._shape == (7, 9, 2) and isinstance(found, c.keops.LazyTensor)
    phase = (c.dense_x * c.dense_y)[..., 0]
    close(found.sum(axis=1), np.stack([np.cos(phase), np.sin(phase)], -1).sum(1))
    close(c.x_i.unary("Exp").binary(c.y_j, "*", is_operator=True).sum(axis=1), (np.exp(c.dense_x) * c.dense_y).sum(1))
    close(
        c.x_i.ternary(c.y_j, 0.5, "IfElse").binary(c.y_j, "SqDist").sum(axis=1),
        ((np.where(c.dense_x >= 0, c.dense_y, 0.5) - c.dense_y) ** 2).sum(1),
    )
    complex_one = c.x_i.unary("ComplexExp1j", dimres=2, is_complex=True)
    assert isinstance(complex_one, c.keops.ComplexLazyTensor) and complex_one.shape == (7, 1)
    with pytest.raises(ValueError, match="no operation 'Epx'"):
        c.x_i.unary("Epx")
    with pytest.raises(ValueError, match="dimres=5"):
        c.x_i.unary("Exp", dimres=5)


# ---- reductions


def logsumexp(values, axis, weight=1.0):
    return special.logsumexp(values, axis=axis, b=weight)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("axis", [0, 1])
@frameworks
def test_reductions(framework, axis, batch, random):
    c = clouds(framework, random, batch=batch)
    along = len(batch) + axis
    vectors, dense = c.x_i * c.y_j + c.x_i, c.dense_x * c.dense_y + c.dense_x
    K, numbers = vectors.sum(-1), dense.sum(-1, keepdims=True)
    close(vectors.sum(axis=along), dense.sum(along))
    close(vectors.sum(dim=along), dense.sum(along))
    close(K.sum(along), numbers.sum(along))
    close(
        K.sum_reduction(axis=along, use_double_acc=True, sum_scheme="auto", enable_chunks=False, backend="CPU", device_id=0),
        numbers.sum(along),
    )
    close(K.sum(along, dtype_acc="float64"), numbers.sum(along))
    close(K.sum(along, sum_scheme="kahan_scheme"), numbers.sum(along))
    close(K.logsumexp(along), logsumexp(numbers, along))
    close(K.logsumexp(along, other=c.y_j.exp()), logsumexp(numbers, along, np.exp(c.dense_y)))
    close(K.logsumexp(dim=along, weight=c.y_j.exp()), logsumexp(numbers, along, np.exp(c.dense_y)))
    weights = np.exp(numbers) / np.exp(numbers).sum(along, keepdims=True)
    close(K.sumsoftmaxweight(c.y_j, axis=along), (weights * c.dense_y).sum(along))
    for name in ("min", "max"):
        expected, place = getattr(dense, name)(along), getattr(dense, f"arg{name}")(along)
        close(getattr(vectors, name)(axis=along), expected)
        close(getattr(vectors, f"{name}_reduction")(axis=along), expected)
        close(getattr(vectors, f"arg{name}")(axis=along), place)
        close(getattr(vectors, f"arg{name}_reduction")(axis=along), place)
        values, indices = getattr(vectors, f"{name}_arg{name}")(axis=along)
        close(values, expected)
        close(indices, place)
        assert "int64" in str(indices.dtype)
    order = np.moveaxis(np.argsort(dense, along, kind="stable"), along, -2)[..., :4, :]
    sorted_values = np.moveaxis(np.sort(dense, along), along, -2)[..., :4, :]
    close(vectors.Kmin(4, axis=along), sorted_values)
    close(vectors.argKmin(4, dim=along), order)
    order, sorted_values = (np.moveaxis(f(numbers, along), along, -2)[..., :4, 0] for f in (np.argsort, np.sort))
    close(K.argKmin(K=4, axis=along), order)
    values, indices = K.Kmin_argKmin(4, axis=along)
    close(values, sorted_values)
    close(indices, order)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 5), st.integers(0, 1), st.integers(0, 99))
def test_shapes_of_sums(m, n, d, axis, seed):
    c = clouds("numpy", np.random.default_rng(seed), m, n, d)
    difference = c.dense_x - c.dense_y
    close((c.x_i - c.y_j).sum(axis=axis), difference.sum(axis))
    close(((c.x_i - c.y_j) ** 2).sum(-1).sqrt().sum(axis=axis), np.sqrt((difference**2).sum(-1, keepdims=True)).sum(axis))


@frameworks
def test_broadcast_batches(framework, random):
    x, y, p = random.standard_normal((2, 1, 5, 1, 3)), random.standard_normal((4, 1, 6, 3)), random.standard_normal((2, 1, 1, 1, 3))
    keops = module(framework)
    x_i, y_j, parameter = (keops.LazyTensor(array(framework, a)) for a in (x, y, p))
    assert parameter.axis == 2 and parameter.batchdims == (2, 1)
    K = ((x_i - y_j) * parameter).sum(-1)
    assert K._shape == (2, 4, 5, 6, 1)
    close(K.sum(axis=3), ((x - y) * p).sum(-1, keepdims=True).sum(3))
    v = random.standard_normal((6, 2))
    close(K @ array(framework, v), ((x - y) * p).sum(-1) @ v)


@frameworks
def test_products(framework, random):
    c = clouds(framework, random, batch=(2,))
    single = clouds(framework, random)
    K, dense = (single.x_i | single.y_j).exp(), np.exp((single.dense_x * single.dense_y).sum(-1))
    v, w = random.standard_normal((9, 2)), random.standard_normal((7, 2))
    close(K @ array(framework, v), dense @ v)
    close(K @ array(framework, v[:, 0]), dense @ v[:, 0])
    close(K.t() @ array(framework, w), dense.T @ w)
    close(K.T @ array(framework, w[:, 0]), dense.T @ w[:, 0])
    close(K.matvec(array(framework, v)), dense @ v)
    close(K.rmatvec(array(framework, w[:, 0])), dense.T @ w[:, 0])
    assert K.T.shape == (9, 7)
    batched, dense = (c.x_i - c.y_j).sum(-1), (c.dense_x - c.dense_y).sum(-1)
    v = random.standard_normal((2, 9, 4))
    close(batched @ array(framework, v), dense @ v)
    close(batched.t() @ array(framework, v[:, :7]), dense.swapaxes(1, 2) @ v[:, :7])


def test_scipy_takes_them(random):
    from scipy.sparse.linalg import aslinearoperator, eigsh

    x = random.standard_normal((60, 2))
    keops = module("numpy")
    K = (-((keops.Vi(x) - keops.Vj(x)) ** 2).sum(-1)).exp()
    dense = np.exp(-((x[:, None] - x) ** 2).sum(-1))
    found = eigsh(aslinearoperator(K), k=4, return_eigenvectors=False)
    close(np.sort(found), np.sort(np.linalg.eigvalsh(dense))[-4:], 1e-8)


# ---- later


@frameworks
def test_call_later(framework, random):
    c = clouds(framework, random)
    K = (c.x_i - c.y_j).abs().sum(-1)
    expected = abs(c.dense_x - c.dense_y).sum(-1, keepdims=True).sum(1)
    reduced = K.sum_reduction(axis=1, call=False)
    assert callable(reduced) and reduced.reduction_op == "Sum" and "reduction: Sum" in str(reduced)
    close(reduced(), expected)
    close(K.sum(axis=1, call=False)(backend="CPU"), expected)
    with pytest.raises(ValueError, match="waits for its arrays"):
        reduced + 1
    with pytest.raises(ValueError, match="was given 1 arrays"):
        reduced(c.x)
    with pytest.raises(ValueError, match="only a reduction"):
        K()


@frameworks
def test_what_a_reduction_calls(framework, random):
    c = clouds(framework, random)
    later = ((c.x_i - c.y_j) ** 2).sum(-1).sum(axis=1, call=False)
    close(later.callfun(*later.variables), ((c.dense_x - c.dense_y) ** 2).sum(-1).sum(1)[:, None])
    b = array(framework, random.standard_normal((7, 2)))
    K = (-c.x_i.sqdist(c.keops.Vj(c.x))).exp()
    solver = K.solve(c.keops.Vi(b), alpha=0.5, call=False)
    dense = np.exp(-((c.dense_x - c.dense_x[:, 0]) ** 2).sum(-1))
    close(solver.callfun(b, *K.variables, alpha=0.5), np.linalg.solve(dense + 0.5 * np.eye(7), np.asarray(b)), 1e-6)
    with pytest.raises(AttributeError, match="only a reduction has a callfun"):
        assert c.x_i.callfun


@frameworks
def test_symbolic_variables(framework, random):
    c = clouds(framework, random)
    Vi, Vj, Pm = c.keops.Vi, c.keops.Vj, c.keops.Pm
    p = random.standard_normal(3)
    x, y, q = Vi(0, 3), Vj(1, 3), Pm(2, 3)
    assert (x.axis, y.axis, q.axis, x.ind, y.ind, q.ind, x.ndim) == (0, 1, 2, 0, 1, 2, 3)
    K = (-((x - y) * q).sqnorm2()).exp()
    assert K.new_variable_index() == 3 and x.new_variable_index() == 1 and Vi(c.x).new_variable_index() == 0
    assert sorted(K.symbolic_variables) == [(0, 3, 0), (1, 3, 1), (2, 3, 2)] and K.dtype is None
    dense = np.exp(-((p * (c.dense_x - c.dense_y)) ** 2).sum(-1, keepdims=True))
    close(K.sum(axis=1)(c.x, c.y, array(framework, p)), dense.sum(1))
    close(K.logsumexp(axis=0)(c.x, c.y, array(framework, p)), logsumexp(dense, 0))
    mixed = (-((x - Vj(c.y)) * list(p)).sqnorm2()).exp()
    close(mixed.sum_reduction(axis=1)(c.x), dense.sum(1))
    same_array = ((x - y) ** 2).sum(-1).sum(axis=1)(c.x, c.x)
    close(same_array, ((c.dense_x - c.dense_x.swapaxes(0, 1)) ** 2).sum(-1, keepdims=True).sum(1))
    batched = clouds(framework, random, batch=(2,))
    close((x - y).sum_reduction(axis=1)(batched.x, batched.y), (batched.dense_x - batched.dense_y).sum(2))
    with pytest.raises(ValueError, match="3 symbolic variables, but was given 2"):
        K.sum(axis=1)(c.x, c.y)
    with pytest.raises(ValueError, match="D = 3"):
        K.sum(axis=1)(c.x[:, :2], c.y, array(framework, p))


@frameworks
def test_derivatives_as_formulas(framework, random):
    c = clouds(framework, random)
    K = (-(c.x_i - c.y_j).sqnorm2()).exp()
    difference = c.dense_x - c.dense_y
    dense = np.exp(-(difference**2).sum(-1, keepdims=True))
    close(K.grad(c.x_i, 1).sum_reduction(axis=1), (-2 * difference * dense).sum(1))
    e = c.keops.Vi(K.new_variable_index(), 1)
    cotangent = random.standard_normal((7, 1))
    close(K.grad(c.x_i, e).sum_reduction(axis=1)(array(framework, cotangent)), (-2 * difference * dense * cotangent[:, None]).sum(1))
    u = random.standard_normal((7, 3))
    close(
        K.diff(c.x_i, c.keops.Vi(array(framework, u))).sum(axis=1), (-2 * (difference * u[:, None]).sum(-1, keepdims=True) * dense).sum(1)
    )
    close(K.laplacian(c.x_i).sum(axis=1), ((4 * (difference**2).sum(-1, keepdims=True) - 6) * dense).sum(1))
    close((c.x_i**2 * c.y_j).divergence(c.x_i).sum(axis=1), (2 * c.dense_x * c.dense_y).sum(-1, keepdims=True).sum(1))
    close((c.x_i * c.y_j).grad_matrix(c.x_i).sum_reduction(axis=1), (np.eye(3) * c.dense_y.sum((0, 1))).reshape(1, 9).repeat(7, 0))
    v = c.keops.Vi(0, 3)
    close((v * c.x_i * c.y_j).trace_operator(v).sum(axis=1), (c.dense_x * c.dense_y).sum(-1, keepdims=True).sum(1))


# ---- complex numbers


@frameworks
def test_complex(framework, random):
    keops = module(framework)
    z, w = (random.standard_normal((n, 2)) + 1j * random.standard_normal((n, 2)) for n in (7, 9))
    z_i, w_j = keops.LazyTensor(array(framework, z)[:, None]), keops.LazyTensor(array(framework, w)[None])
    dense_z, dense_w = z[:, None], w[None]
    assert isinstance(z_i, keops.ComplexLazyTensor) and not isinstance(z_i, keops.LazyTensor)
    assert (z_i.shape, z_i._shape, z_i.dtype, z_i.is_complex) == ((7, 1, 2), (7, 1, 4), "complex128", True)
    real = random.standard_normal((9, 2))
    r_j = keops.LazyTensor(array(framework, real)[None])
    cases = [
        (z_i * w_j, dense_z * dense_w),
        (z_i + w_j, dense_z + dense_w),
        (z_i - r_j, dense_z - real),
        (r_j / z_i, real / dense_z),
        (r_j * z_i, real * dense_z),
        (z_i * 2.5 + 1j, dense_z * 2.5 + 1j),
        ((z_i * w_j).exp(), np.exp(dense_z * dense_w)),
        (z_i.conj() * w_j, dense_z.conj() * dense_w),
        ((z_i * w_j).sum(-1), (dense_z * dense_w).sum(-1, keepdims=True)),
        (abs(z_i) * r_j, abs(dense_z) * real),
        (z_i.angle() * r_j, np.angle(dense_z) * real),
        (z_i.real * w_j.imag, dense_z.real * dense_w.imag),
        (r_j.exp1j() * z_i, np.exp(1j * real) * dense_z),
        (r_j.real2complex() * z_i, real * dense_z),
        (r_j.imag2complex() * z_i, 1j * real * dense_z),
        (z_i * [1j, 2.0] + r_j, dense_z * np.array([1j, 2]) + real),
    ]
    for lazy, expected in cases:
        close(lazy.sum(axis=1), expected.sum(1))
    K = 1 / (z_i - w_j).sum(-1)
    close(K @ array(framework, w), (1 / (dense_z - dense_w).sum(-1)) @ w)


@pytest.mark.parametrize("axis", [0, 1])
@frameworks
def test_complex_interleaved(framework, axis, random):
    """Cauchy's and Vandermonde's kernels of state-space models: real arrays of pairs, formulas of complex operators."""
    keops = module(framework)
    v, w = (random.standard_normal(9) + 1j * random.standard_normal(9) for _ in range(2))
    z = random.standard_normal(7) + 1j * random.standard_normal(7)
    pairs = [array(framework, a.view(float).reshape(-1, 2)) for a in (v, z, w)]
    kinds = ["v = Vj(2)", "z = Vi(2)", "w = Vj(2)"] if axis else ["v = Vi(2)", "z = Vj(2)", "w = Vi(2)"]
    numerator = "z * ComplexReal(v) - Real2Complex(ComplexReal(v)*ComplexReal(w) + ComplexImag(v)*ComplexImag(w))"
    cauchy = keops.Genred(f"ComplexDivide({numerator}, ComplexMult(z-w, z-Conj(w)))", kinds, reduction_op="Sum", axis=axis)
    found = np.asarray(cauchy(*pairs, backend="GPU"))
    z_ = z[:, None]
    close(2 * found.view(complex)[:, 0], (v / (z_ - w) + v.conj() / (z_ - w.conj())).sum(1))
    vandermonde = keops.Genred("ComplexMult(v, ComplexExp(ComplexMult(z, w)))", kinds, axis=axis)
    close(np.asarray(vandermonde(*pairs)).view(complex)[:, 0], (v * np.exp(z_ * w)).sum(1))


# ---- block sparsity


@frameworks
def test_ranges(framework, random):
    c = clouds(framework, random, m=6, n=8)
    K = (-((c.x_i - c.y_j) ** 2).sum(-1)).exp()
    dense = np.exp(-((c.dense_x - c.dense_y) ** 2).sum(-1))
    mask = np.zeros((6, 8))
    mask[:4, :3] = mask[4:, 2:] = 1
    ranges = [[[0, 4], [4, 6]], [1, 2], [[0, 3], [2, 8]], [[0, 2], [2, 3], [3, 8]], [1, 3, 4], [[0, 4], [0, 4], [4, 6], [4, 6]]]
    ranges = tuple(array(framework, r, "int32") for r in ranges)
    close(K.sum(axis=1, ranges=ranges), (dense * mask).sum(1)[:, None])
    close(K.sum(axis=0, ranges=ranges), (dense * mask).sum(0)[:, None])
    K.ranges = ranges
    v, w = random.standard_normal((8, 2)), random.standard_normal((6, 2))
    close(K @ array(framework, v), (dense * mask) @ v)
    close(K.T @ array(framework, w), (dense * mask).T @ w)
    close((K * 2 + 1).sum(axis=1), ((2 * dense + 1) * mask).sum(1)[:, None])
    close(K.argmin(axis=1)[:, 0], np.where(mask > 0, dense, np.inf).argmin(1))


# ---- where KeOps is wrong, or refuses


def test_gradients_of_choices(random):
    """Where a branch is not taken its derivative does not count, nan though it may be: a root of a negative number's."""
    torch = pytest.importorskip("torch")
    keops = module("torch")
    f = torch.from_numpy(random.standard_normal((8, 1))).requires_grad_()
    y = torch.from_numpy(random.standard_normal((5, 1)))
    f_i, y_j = keops.Vi(f), keops.Vj(y)
    chosen = f_i.ifelse((f_i.sqrt() * y_j).exp(), f_i * f_i * f_i * y_j).sum(1)
    (found,) = torch.autograd.grad(chosen.sum(), [f], create_graph=True)
    x, y = f.detach().numpy(), y.numpy().T
    root = np.sqrt(np.maximum(x, 0) + (x < 0))
    close(chosen, np.where(x >= 0, np.exp(root * y), x**3 * y).sum(1, keepdims=True))
    close(found, np.where(x >= 0, np.exp(root * y) * y / (2 * root), 3 * x**2 * y).sum(1, keepdims=True))
    curved = np.exp(root * y) * (y**2 / (4 * root**2) - y / (4 * root**3))
    close(torch.autograd.grad(found.sum(), f)[0], np.where(x >= 0, curved, 6 * x * y).sum(1, keepdims=True))


def test_gradients_of_minima(random):
    torch = pytest.importorskip("torch")
    x, y = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (7, 9))
    keops = module("torch")
    for name, dense in (("min", lambda d: d.min(1).values), ("Kmin", lambda d: d.sort(1).values[:, :2])):
        K = ((keops.Vi(x) - keops.Vj(y)) ** 2).sum(-1)
        found = K.min(axis=1)[:, 0] if name == "min" else K.Kmin(2, axis=1)
        expected = dense(((x[:, None] - y) ** 2).sum(-1))
        weights = torch.randn_like(expected)
        for a, b in zip(
            torch.autograd.grad((found * weights).sum(), (x, y)), torch.autograd.grad((expected * weights).sum(), (x, y)), strict=True
        ):
            close(a, b.numpy())


def test_indices_beyond_what_float32_counts():
    keops = module("numpy")
    n = (1 << 24) + 5
    y = np.ones((n, 1), np.float32)
    y[n - 2] = 0
    K = (keops.Vi(np.zeros((2, 1), np.float32)) - keops.Vj(y)).abs()
    assert K.argmin(axis=1).tolist() == [[n - 2]] * 2


def test_second_derivatives(random):
    torch = pytest.importorskip("torch")
    x, y = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (6, 8))
    keops = module("torch")

    def both(lazy):
        found = (
            torch.exp(-((x[:, None] - y) ** 2).sum(-1)).sum(1)[:, None]
            if not lazy
            else (-((keops.Vi(x) - keops.Vj(y)) ** 2).sum(-1)).exp().sum(axis=1)
        )
        (g,) = torch.autograd.grad((found**2).sum(), x, create_graph=True)
        return found, g, torch.autograd.grad((g**2).sum(), y)[0]

    for a, b in zip(both(True), both(False), strict=True):
        close(a, b.detach().numpy(), 1e-8)


def test_a_torch_parameter_is_differentiated(random):
    torch = pytest.importorskip("torch")
    keops = module("torch")
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    scale = torch.nn.Parameter(torch.tensor([1.5], dtype=torch.float64))
    K = (-keops.Vi(x).sqdist(keops.Vj(y)) / keops.Pm(scale)).exp()
    (found,) = torch.autograd.grad(K.sum(axis=1).sum(), scale)
    (expected,) = torch.autograd.grad((-((x[:, None] - y) ** 2).sum(-1) / scale).exp().sum(), scale)
    close(found, expected.numpy())
    assert math.isfinite(float(found))


@frameworks
def test_beyond_keops(framework, random):
    """What the guide says becomes possible, or is different."""
    c = clouds(framework, random)
    K = c.x_i | c.y_j
    close((K * 0).sum(axis=1), np.zeros((7, 1)))
    assert K.native.mean().shape == () and K.native.shape == (7, 9, 1)
    close(c.keops.LazyTensor(K.native).sum(axis=1), (c.dense_x * c.dense_y).sum((1, 2))[:, None])
    close((c.x_i * c.y_j).logsumexp(axis=1), logsumexp(c.dense_x * c.dense_y, 1))
    assert (c.x_i - c.keops.Vj(c.y[:0])).sum(axis=1).tolist() == np.zeros((7, 3)).tolist()
    labels = c.keops.LazyTensor(array(framework, np.arange(7))[:, None, None])
    close((labels * c.y_j).sum(axis=1), np.arange(7)[:, None] * c.dense_y.sum(1))
    close(c.keops.Genred(K.formula, [], axis=1)(*K.variables), (c.dense_x * c.dense_y).sum((1, 2))[:, None])
    strided = c.keops.Vi(c.x[::2]) * c.keops.Vj(c.y[::3])
    close(strided.sum(axis=1), (c.dense_x[::2] * c.dense_y[:, ::3]).sum(1))


# ---- where KeOps has its own ideas


@frameworks
def test_points_do_themselves_no_harm(framework, random):
    x = random.standard_normal((8, 3))
    keops, points = module(framework), array(framework, x)
    difference = x[None] - x[:, None]
    size = np.sqrt((difference**2).sum(-1, keepdims=True))
    force = (difference * np.divide(1, size, out=np.zeros_like(size), where=size > 0) ** 3).sum(1)
    d = keops.Vj(points) - keops.Vi(points)
    close((d * (d**2).sum(-1).rsqrt() ** 3).sum(1), force)
    close((d * ((d**2).sum(-1) ** -0.5) ** 3).sum(1), force)
    close(keops.Genred("(y-x)*Pow(Rsqrt(SqDist(x,y)),3)", ["x=Vi(3)", "y=Vj(3)"], axis=1)(points, points), force)


@frameworks
def test_halves_are_rounded_away_from_zero(framework):
    z = np.array([-2.5, -0.5, 0.49999997, 0.5, 1.5, 2.5, np.inf])[:, None, None]
    lazy = module(framework).LazyTensor(array(framework, z)) + module(framework).LazyTensor(array(framework, np.zeros((1, 1, 1))))
    close(lazy.round().sum(1)[:, 0], np.array([-3, -1, 0, 1, 2, 3, np.inf]))
    close(lazy.round(-1).sum(1)[:, 0], np.array([0, 0, 0, 0, 0, 0, np.inf]))


@frameworks
def test_parameters_are_named_as_in_keops(framework, random):
    c = clouds(framework, random)
    knots = module(framework).LazyTensor(array(framework, np.sort(random.random(8))))
    x, y = c.x_i, c.y_j
    same = [
        (lambda: knots.bspline(y[0], k=3), lambda: knots.bspline(y[0], 3)),
        (lambda: x.extract(i=0, d=2), lambda: x.extract(0, 2)),
        (lambda: x.extract(0, d=2), lambda: x.extract(0, 2)),
        (lambda: x.elem(i=1), lambda: x.elem(1)),
        (lambda: y[0].one_hot(D=3), lambda: y[0].one_hot(3)),
        (lambda: x.round(other=2), lambda: x.round(2)),
        (lambda: x.sqdist(other=y), lambda: x.sqdist(y)),
        (lambda: x.clamp(other1=0, other2=1), lambda: x.clamp(0, 1)),
        (lambda: x.ifelse(other2=y, other1=x), lambda: x.ifelse(x, y)),
        (lambda: x.power(other=3), lambda: x**3),
        (lambda: type(x).concatenate(tuple_of_lt=(x, y)), lambda: x.concat(y)),
        (
            lambda: x.keops_tensordot(y, dimfa=(3,), dimfb=(3,), contfa=(0,), contfb=(0,)),
            lambda: x.keops_tensordot(y, (3,), (3,), (0,), (0,)),
        ),
        (lambda: x.binary(y, "TensorDot", dimres=1, dimcheck=None, opt_arg="[3], [3], [0], [0]"), lambda: x | y),
        (lambda: x.binary(y, "<", is_operator=True), lambda: x < y),
        (lambda: x.binary(y, ">=", is_operator=True), lambda: x >= y),
    ]
    for named, positional in same:
        total = module(framework).Vj(c.y).sum(-1) * 0  # so that each has rows and columns
        close((named() + total + x[0] * 0).sum(1), np.asarray((positional() + total + x[0] * 0).sum(1)))
    with pytest.raises(TypeError, match="'b'"):
        x.sqdist(y, b=3)
    with pytest.raises(TypeError, match="'other2'"):  # not in the place of the first
        x.clamp(other2=1)


@frameworks
def test_more_neighbours_than_there_are(framework, random):
    x = random.standard_normal((4, 3))
    points = array(framework, x)
    K = ((module(framework).Vi(points) - module(framework).Vj(points)) ** 2).sum(-1)  # noqa: N806
    square = ((x[:, None] - x) ** 2).sum(-1)
    values, index = K.Kmin_argKmin(6, dim=1)
    close(values, np.concatenate([np.sort(square, 1), np.full((4, 2), np.inf)], 1))
    close(index, np.concatenate([np.argsort(square, 1), np.zeros((4, 2))], 1))
    assert tuple(K.argKmin(6, dim=1).shape) == (4, 6) and tuple(K.Kmin(5, dim=0).shape) == (4, 5)
