"""Complex numbers as pairs of formulas, against NumPy's complex128."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold.formula.complex import OF_COMPLEX, Complex, exp, from_real, from_vector, power
from pairfold.formula.graph import Node, apply, const, topological, var
from pairfold.formula.operators import OPERATORS
from pairfold.formula.reference import evaluate
from pairfold.formula.simplify import expand, simplify
from tests.formula.meanings import ARITY, MEANING

PARTS = {"complex": (True, True), "real": (True, False), "imaginary": (False, True)}


def number(first: int, dim: int, parts: tuple[bool, bool], axis: str) -> Complex:
    """A number over the variables `first` and `first` + 1; what it lacks is 0."""
    re, im = (var(axis, first + k, dim) if there else const(0) for k, there in enumerate(parts))
    return Complex(re, im)


def value(formula: Complex | Node, arrays: list[np.ndarray]) -> np.ndarray:
    if isinstance(formula, Node):
        return evaluate(simplify(expand([formula]))[0], arrays)
    re, im = (evaluate(p, arrays) for p in (from_vector(formula.vector).real, from_vector(formula.vector).imag))
    return re + 1j * im


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("name", OF_COMPLEX)
def test_meaning(name, dim, random):
    """Of numbers with both parts, and of those that lack one."""
    kinds = list(PARTS)
    for turn in range(len(kinds) if ARITY.get(name, 1) == 1 else 9):
        chosen = [kinds[turn % 3], kinds[turn // 3 % 3], kinds[(turn + turn // 3) % 3]][: ARITY.get(name, 1)]
        arrays, formulas, values = [], [], []
        for k, kind in enumerate(chosen):
            axis = "ij"[k % 2]
            shape = (4 if axis == "i" else 5, dim)
            parts = [random.choice([-1, 1], shape) * random.uniform(0.3, 1.2, shape) for _ in range(2)]
            if k == 1 and name in ("eq", "ne"):
                parts = [p[[0, 1, 2, 3, 0]] for p in arrays[:2]]
            arrays += parts
            formulas.append(number(2 * k, dim, PARTS[kind], axis))
            z = parts[0] * PARTS[kind][0] + 1j * parts[1] * PARTS[kind][1]
            values.append(z[:, None] if axis == "i" else z[None])
        found = value(OF_COMPLEX[name](*formulas), arrays)
        with np.errstate(all="ignore"):
            wanted = MEANING[name](*values)
        np.testing.assert_allclose(*np.broadcast_arrays(found, wanted), rtol=1e-12, atol=1e-12, err_msg=str(chosen))


def test_every_meaning_is_of_an_operator():
    assert set(OF_COMPLEX) <= set(OPERATORS) and set(MEANING) == set(OF_COMPLEX)


def operators(formula: Complex) -> list[str]:
    (vector,) = simplify([formula.vector])
    return sorted(n.op.name for n in topological([vector]) if n.args and n.op.structure != "index")


def test_absent_parts_cost_nothing():
    x, y = var("i", 0, 1), var("j", 1, 1)
    unit = Complex(const(0), const(1))
    assert operators(exp(from_real(x * y) * unit)) == ["cos", "mul", "sin"]
    assert operators(from_real(x) + from_real(y) * unit) == []
    assert operators(Complex(x, y) * from_real(y)) == ["mul", "square"]
    assert operators(Complex(x, y).conj.conj) == []
    assert operators(from_real(x) / from_real(y)) == ["div"]


@pytest.mark.parametrize("n", [-3, -1, 0, 1, 2, 3, 5, 8, 13])
def test_whole_powers(n, random):
    arrays = [random.normal(size=(6, 2)) for _ in range(2)]
    z = (arrays[0] + 1j * arrays[1])[:, None]
    found = value(power(number(0, 2, (True, True), "i"), n), arrays)
    np.testing.assert_allclose(np.broadcast_to(found, z.shape), z**n, rtol=1e-12)


def test_general_powers_of_zero():
    z, p = number(0, 1, (True, True), "i"), number(2, 1, (True, True), "j")
    exponents = np.array([0, 1, 2.5, 1 + 2j, -1, -1j])[:, None]
    arrays = [np.zeros((1, 1)), np.zeros((1, 1)), exponents.real, exponents.imag]
    found = value(OF_COMPLEX["pow"](z, p), arrays).ravel()
    np.testing.assert_array_equal(found, [1, 0, 0, 0, complex(np.nan, np.nan), complex(np.nan, np.nan)])


def test_signs_of_zero_choose_the_side_of_a_cut():
    z = number(0, 1, (True, True), "i")
    points = [np.array([[-1.0], [-1.0], [-4.0]]), np.array([[0.0], [-0.0], [-0.0]])]
    np.testing.assert_array_equal(value(OF_COMPLEX["sqrt"](z), points).ravel(), [1j, -1j, -2j])
    np.testing.assert_allclose(value(OF_COMPLEX["log"](z), points).ravel().imag, [np.pi, -np.pi, -np.pi])


def test_a_vector_is_its_parts():
    x, y = var("i", 0, 3), var("j", 1, 3)
    z = from_vector(apply("concat", x, y))
    assert z.real is x and z.imag is y
    half = from_vector(var("i", 0, 4))
    assert half.real.dim == half.imag.dim == 2 and half.vector.dim == 4
