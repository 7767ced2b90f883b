"""KeOps's names for what is here a formula of several operators: constants, components, derivatives, interleaved complex numbers.

The names of single operators are in their records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import complex as of_complex
from .complex import Complex, from_real
from .differentiate import adjoint_operator, divergence, jacobian, jvp, laplacian, trace_operator, vjp
from .graph import Node, apply, const, value_of, var, variables
from .operators import concat, extract, spread, zeros


@dataclass(frozen=True)
class Spelling:
    """How a name is used.

    Attributes
    ----------
    build : callable
        ``build(*operands, *attributes)``, the formula; raises ValueError where they do not fit.
    arity : int
        How many formulas it takes; -1 where any number from one on.
    attributes : tuple of type
        Types of the static parameters behind the operands: int or tuple.
    optional : int
        How many of the last of these, or of the operands where there are none, may be left out.
    """

    build: Callable[..., Node]
    arity: int
    attributes: tuple[type, ...] = ()
    optional: int = 0


# ---- constants and components


def _quotient(p: int, q: int) -> Node:
    try:
        return const(p / q)
    except ArithmeticError:
        raise ValueError(f"{p}/{q} is no number") from None


def _vector_of(dim: int) -> Node:
    if dim < 1:
        raise ValueError(f"a vector of {dim} components does not exist")
    return zeros(dim)


def _in_place(a: Node, dim: int, place: int) -> Node:
    if a.dim != 1:
        raise ValueError(f"one number is put in place, not a vector of dimension {a.dim}")
    return apply("insert", a, attrs=(place, dim))


def _shifted_mod(a: Node, modulus: Node, offset: Node) -> Node:
    """a - modulus · floor((a - offset)/modulus)."""
    if value_of(offset) == 0:
        return apply("mod", a, modulus)
    return apply("mod", a - offset, modulus) + offset


def _weighted(power: int) -> Callable[[Node, Node], Node]:
    """A weighted squared norm whose weights must be as many as the vector's dimension to a given power."""

    def build(s: Node, a: Node) -> Node:
        if s.dim != a.dim**power:
            raise ValueError(f"{s.dim} weights for a vector of dimension {a.dim}, which takes {a.dim**power}")
        return apply("weightedsqnorm", s, a)

    return build


def _variable(axis: str) -> Callable[[int, int], Node]:
    def build(index: int, dim: int) -> Node:
        if index < 0 or dim < 1:
            raise ValueError(f"a variable has a number from 0 on and a dimension of at least 1, not {index} and {dim}")
        return var(axis, index, dim)

    return build


def _categorised(index: int, dim: int, category: int) -> Node:
    if not 0 <= category < 3:
        raise ValueError(f"a variable's category is 0 (i), 1 (j) or 2 (parameter), not {category}")
    return _variable("ijp"[category])(index, dim)


# ---- derivatives


def _gradient(f: Node, v: Node, e: Node | None = None) -> Node:
    if e is None:  # as in KeOps the next variable, of the other category
        if _checked(v).attrs[0] == "p":
            raise ValueError(f"by a parameter, {v}, the cotangent must be given, as Grad(F,p,e)")
        e = var("j" if v.attrs[0] == "i" else "i", 1 + max(u.attrs[1] for u in variables((f, v))), f.dim)
    (found,) = vjp(f, [_checked(v)], e)
    return zeros(v.dim) if found is None else found


def _differential(f: Node, v: Node, u: Node) -> Node:
    return jvp(f, {_checked(v): u if u.dim == v.dim else spread(u, v.dim)}) or zeros(f.dim)


def _with_saved(derivative: Callable[[Node, Node, Node], Node]) -> Callable[[Node, Node, Node, Node], Node]:
    """A derivative that is given the formula's value too, which KeOps saved: what derivatives share with it is computed once anyway."""

    def build(f: Node, v: Node, e: Node, saved: Node) -> Node:
        if saved.dim != f.dim:
            raise ValueError(f"the saved value of a formula of dimension {f.dim} has that dimension, not {saved.dim}")
        return derivative(f, v, e)

    return build


def _checked(v: Node) -> Node:
    if v.op.name != "var":
        raise ValueError(f"derivatives are taken by variables, not by {v}")
    return v


# ---- complex numbers: the parts of a component beside one another


def from_interleaved(vector: Node) -> Complex:
    if vector.dim % 2:
        raise ValueError(f"a complex vector has an even dimension, real and imaginary parts beside one another, not {vector.dim}")
    real, imag = (concat(*(extract(vector, k, 1) for k in range(part, vector.dim, 2))) for part in (0, 1))
    return Complex(real, imag)


def interleaved(z: Complex) -> Node:
    real, imag = (p if p.dim == z.dim else spread(p, z.dim) for p in (z.real, z.imag))
    return concat(*(extract(p, k, 1) for k in range(z.dim) for p in (real, imag)))


def _of_complex(function: Callable[..., Complex | Node], arity: int = 1) -> Spelling:
    def build(*operands: Node) -> Node:
        found = function(*map(from_interleaved, operands))
        return interleaved(found) if isinstance(found, Complex) else found

    return Spelling(build, arity)


def _scaled(a: Node, b: Node) -> Node:
    if 1 not in (a.dim, b.dim):
        raise ValueError(f"one number and a complex vector are multiplied, not dimensions {a.dim} and {b.dim}")
    real, vector = (a, b) if a.dim == 1 else (b, a)
    return interleaved(from_real(real) * from_interleaved(vector))


def _repeated(a: Node, dim: int) -> Node:
    if a.dim != 2 or dim < 2 or dim % 2:
        raise ValueError(f"one complex number is repeated to an even dimension, not dimension {a.dim} to {dim}")
    return concat(*[a] * (dim // 2))


SPELLINGS: dict[str, Spelling] = {
    "Var": Spelling(_categorised, 0, (int, int, int)),
    "Vi": Spelling(_variable("i"), 0, (int, int)),
    "Vj": Spelling(_variable("j"), 0, (int, int)),
    "Pm": Spelling(_variable("p"), 0, (int, int)),
    "IntCst": Spelling(lambda n: _quotient(n, 1), 0, (int,)),
    "IntInv": Spelling(lambda n: _quotient(1, n), 0, (int,)),
    "RatCst": Spelling(_quotient, 0, (int, int)),
    "Zero": Spelling(_vector_of, 0, (int,)),
    "Scal": Spelling(lambda a, b: a * b, 2),
    "Mod": Spelling(_shifted_mod, 3),
    "ClampInt": Spelling(lambda a, low, high: apply("clamp", a, _quotient(low, 1), _quotient(high, 1)), 1, (int, int)),
    "Elem": Spelling(lambda a, k: apply("extract", a, attrs=(k, 1)), 1, (int,)),
    "ElemT": Spelling(_in_place, 1, (int, int)),
    "SqNormIso": Spelling(_weighted(0), 2),
    "IsoSqNorm": Spelling(_weighted(0), 2),
    "SqNormDiag": Spelling(_weighted(1), 2),
    "DiagSqNorm": Spelling(_weighted(1), 2),
    "SymSqNorm": Spelling(_weighted(2), 2),
    "TensorDot": Spelling(lambda a, b, *attrs: apply("tensordot", a, b, attrs=attrs), 2, (tuple,) * 5, optional=1),
    "Factorize": Spelling(lambda f, *shared: f, -1),
    "AutoFactorize": Spelling(lambda f: f, 1),
    "Grad": Spelling(_gradient, 3, optional=1),
    "Diff": Spelling(_differential, 3),
    "Grad_WithSavedForward": Spelling(_with_saved(_gradient), 4),
    "Diff_WithSavedForward": Spelling(_with_saved(_differential), 4),
    "GradMatrix": Spelling(jacobian, 2),
    "Divergence": Spelling(divergence, 2),
    "Laplacian": Spelling(laplacian, 2),
    "TraceOperator": Spelling(trace_operator, 2),
    "AdjointOperator": Spelling(adjoint_operator, 3),
    "Real2Complex": Spelling(lambda a: interleaved(from_real(a)), 1),
    "Imag2Complex": Spelling(lambda a: interleaved(Complex(const(0), a)), 1),
    "ComplexReal": _of_complex(lambda z: z.real),
    "ComplexImag": _of_complex(lambda z: z.imag),
    "Conj": _of_complex(lambda z: z.conj),
    "ComplexAbs": _of_complex(of_complex.modulus),
    "ComplexSquareAbs": _of_complex(of_complex.squared_modulus),
    "ComplexAngle": _of_complex(of_complex.angle),
    "ComplexSum": _of_complex(of_complex.OF_COMPLEX["sum"]),
    "ComplexSumT": Spelling(_repeated, 1, (int,)),
    "ComplexAdd": _of_complex(Complex.__add__, 2),
    "ComplexSubtract": _of_complex(Complex.__sub__, 2),
    "ComplexMult": _of_complex(Complex.__mul__, 2),
    "ComplexScal": _of_complex(Complex.__mul__, 2),
    "ComplexRealScal": Spelling(_scaled, 2),
    "ComplexDivide": _of_complex(Complex.__truediv__, 2),
    "ComplexExp": _of_complex(of_complex.exp),
    "ComplexExp1j": Spelling(lambda a: interleaved(of_complex.exp(Complex(const(0), a))), 1),
}
