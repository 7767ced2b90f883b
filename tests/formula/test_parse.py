"""KeOps's syntax: what it means, against NumPy; exact round trips; errors that point at the column."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.interpolate  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docs import keops
from pairfold.formula.graph import Node, apply, const, var
from pairfold.formula.operators import OPERATORS, power
from pairfold.formula.parse import FormulaError, functions, parse, read_aliases, to_keops
from pairfold.formula.reference import evaluate
from tests.formula.cases import formulas as cases
from tests.properties.test_random_formulas import formulas as random_formulas

X, Y, G, B = var("i", 0, 3), var("j", 1, 3), var("p", 2, 1), var("j", 3, 1)
ALIASES = ["X = Vi(3)", "Y = Vj(1,3)", "G = Pm(1)", "B = Vj(1)"]


# ---- what a text means: the formula itself


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("Exp(-G*SqDist(X,Y))*B", apply("exp", -G * apply("sqdist", X, Y)) * B),
        ("X + Y*G", X + Y * G),
        ("(X + Y)*G", (X + Y) * G),
        ("X - Y - G", (X - Y) - G),
        ("X - (Y - G)", X - (Y - G)),
        ("X / Y * G", (X / Y) * G),
        ("-X*Y", (-X) * Y),
        ("-X**2", -apply("square", X)),
        ("(-X)**2", apply("square", -X)),
        ("X**2", apply("square", X)),
        ("X**3", apply("powi", X, attrs=(3,))),
        ("X**-1", 1 / X),
        ("X**0", power(X, 0)),
        ("X**Y**G", apply("pow", X, apply("pow", Y, G))),
        ("2**X", apply("pow", 2, X)),
        ("X**-Y", apply("pow", X, -Y)),
        ("X**0.5", apply("pow", X, 0.5)),
        ("--X", apply("neg", -X)),
        ("+X", X),
        ("X|Y", apply("dot", X, Y)),
        ("X|Y+G", apply("dot", X, Y + G)),
        ("(X|Y)+G", apply("dot", X, Y) + G),
        ("X<Y|X", apply("lt", X, apply("dot", Y, X))),
        ("(X<Y)<=G", apply("le", apply("lt", X, Y), G)),
        ("X>Y", apply("gt", X, Y)),
        ("X>=Y", apply("ge", X, Y)),
        ("X==Y", apply("eq", X, Y)),
        ("X!=Y", apply("ne", X, Y)),
        ("2*X", const(2) * X),
        ("-2*X", const(-2) * X),
        ("X - -2", X - const(-2)),
        ("1.5e-3*X", const(0.0015) * X),
        (".5*X + 1.", const(0.5) * X + 1),
        ("inf*X", const(math.inf) * X),
        ("-nan*X", const(-math.nan) * X),
        ("IntCst(-3)*X", const(-3) * X),
        ("X*RatCst(1,3)", X * (1 / 3)),
        ("X*IntInv(-2)", X * -0.5),
        ("X[1]", apply("extract", X, attrs=(1, 1))),
        ("X[1:3]*2", apply("extract", X, attrs=(1, 2)) * 2),
        ("-X[0]", -apply("extract", X, attrs=(0, 1))),
        ("Exp(X)[2]", apply("extract", apply("exp", X), attrs=(2, 1))),
        ("Var(0,3,0)-Vj(1,3)", X - Y),
        ("Vi(7,2)*Pm(8,2)", var("i", 7, 2) * var("p", 8, 2)),
        (" Exp (\n X )", apply("exp", X)),
        ("tanh(X)", apply("tanh", X)),
        ("logaddexp(X,Y)", apply("logaddexp", X, Y)),
        ("where(X,Y,G)", apply("where", X, Y, G)),
        ("polygamma(X,2)", apply("polygamma", X, attrs=(2,))),
        ("Kron(X,Y,Ind(1,3),[3,1])", apply("kron", X, Y, attrs=((1, 3), (3, 1)))),
        ("TensorDot(X,Y,[3],[3],[],[])", apply("tensordot", X, Y, attrs=((3,), (3,), (), ()))),
        ("TensorDot(X,Y,[3],[3],Ind(),Ind(),Ind(1,0))", apply("tensordot", X, Y, attrs=((3,), (3,), (), (), (1, 0)))),
        ("einsum(X,Y,'k,l->lk',Ind(3,3))", apply("einsum", X, Y, attrs=("k,l->lk", (3, 3)))),
        ("Mod(X,G,0)", apply("mod", X, G)),
        ("Concat(X,Y,G)", apply("concat", X, Y, G)),
        ("Factorize(X*Y,X)", X * Y),
        ("AutoFactorize(X*Y)", X * Y),
        ("Scal(G,X)", G * X),
    ],
)
def test_texts(text, formula):
    assert parse(text, ALIASES) is formula


def test_deep_texts():
    """Deeper than Python's stack."""
    text = "(" * 3000 + "X" + ")" * 3000
    assert parse(text, ALIASES) is X
    formula = X
    for _ in range(3000):
        formula = apply("sin", -formula)
    assert parse(to_keops(formula)) is formula
    assert parse("-" * 1001 + "X", ALIASES) is parse("-" * 501 + "(" + "-" * 500 + "X)", ALIASES)


def test_a_long_sum():
    assert parse("+".join(["X"] * 5000), ALIASES).op.name == "add"


# ---- aliases


@pytest.mark.parametrize(
    ("aliases", "found"),
    [
        (["X = Vi(3)", "Y=Vj(2)", " P = Pm(4) "], {"X": var("i", 0, 3), "Y": var("j", 1, 2), "P": var("p", 2, 4)}),
        (["X = Vi(5,3)", "Y = Vj(2)"], {"X": var("i", 5, 3), "Y": var("j", 1, 2)}),
        (["X = Var(0,3,2)", "x_2 = Var(1, 1, 1)"], {"X": var("p", 0, 3), "x_2": var("j", 1, 1)}),
        (["Vi(3)", "Y = Vj(2)"], {"Y": var("j", 1, 2)}),
        (["X = Vi(0,3)", "Z = Vi(0,3)"], {"X": var("i", 0, 3), "Z": var("i", 0, 3)}),
        ([], {}),
    ],
)
def test_aliases(aliases, found):
    assert read_aliases(aliases) == found


def test_formulas_by_name():
    assert parse("Exp(-D/G)", {"D": apply("sqdist", X, Y), "G": G}) is apply("exp", -apply("sqdist", X, Y) / G)
    assert parse("Exp", {"Exp": X}) is X


# ---- every name that KeOps documents, with its meaning for rows x (3) against columns y (3), parameters g (1) and m (9)


def complexes(v):
    return v[0::2] + 1j * v[1::2]


def interleaved(z):
    return np.stack([z.real, z.imag], -1).ravel()


MEANINGS = {
    "Minus(x)": lambda x, y, g, m: -x,
    "Inv(x)": lambda x, y, g, m: 1 / x,
    "Exp(x)": lambda x, y, g, m: np.exp(x),
    "Log(x)": lambda x, y, g, m: np.log(x),
    "XLogX(x)": lambda x, y, g, m: x * np.log(x),
    "Sin(x)": lambda x, y, g, m: np.sin(x),
    "SinXDivX(x)": lambda x, y, g, m: np.sin(x) / x,
    "Asin(x)": lambda x, y, g, m: np.arcsin(x),
    "Cos(x)": lambda x, y, g, m: np.cos(x),
    "Acos(x)": lambda x, y, g, m: np.arccos(x),
    "Atan(x)": lambda x, y, g, m: np.arctan(x),
    "Atan2(x,y)": lambda x, y, g, m: np.arctan2(x, y),
    "Pow(x,5)": lambda x, y, g, m: x**5,
    "Powf(x,y)": lambda x, y, g, m: x**y,
    "Square(x)": lambda x, y, g, m: x**2,
    "Sqrt(x)": lambda x, y, g, m: np.sqrt(x),
    "Rsqrt(x)": lambda x, y, g, m: x**-0.5,
    "Abs(x-y)": lambda x, y, g, m: abs(x - y),
    "Sign(x-y)": lambda x, y, g, m: np.sign(x - y),
    "Step(x-y)": lambda x, y, g, m: (x >= y) * 1,
    "ReLU(x-y)": lambda x, y, g, m: np.maximum(x - y, 0),
    "Clamp(x,y-g,y)": lambda x, y, g, m: np.clip(x, y - g, y),
    "ClampInt(x*4,1,2)": lambda x, y, g, m: np.clip(x * 4, 1, 2),
    "IfElse(x-y,x,g)": lambda x, y, g, m: np.where(x >= y, x, g),
    "Mod(x*9,y,g)": lambda x, y, g, m: x * 9 - y * np.floor((x * 9 - g) / y),
    "Round(x,2)": lambda x, y, g, m: np.round(x, 2),
    "Floor(x*9)": lambda x, y, g, m: np.floor(x * 9),
    "SqNorm2(x)": lambda x, y, g, m: x @ x,
    "Norm2(x)": lambda x, y, g, m: np.linalg.norm(x),
    "Normalize(x)": lambda x, y, g, m: x / np.linalg.norm(x),
    "SqDist(x,y)": lambda x, y, g, m: (x - y) @ (x - y),
    "WeightedSqNorm(m,x)": lambda x, y, g, m: x @ m.reshape(3, 3) @ x,
    "WeightedSqDist(y,x,g)": lambda x, y, g, m: y @ (x - g) ** 2,
    "SymSqNorm(m,x)": lambda x, y, g, m: x @ m.reshape(3, 3) @ x,
    "SqNormIso(g,x)": lambda x, y, g, m: g * (x @ x),
    "SqNormDiag(y,x)": lambda x, y, g, m: y @ x**2,
    "IsoSqNorm(g,x)": lambda x, y, g, m: g * (x @ x),
    "DiagSqNorm(y,x)": lambda x, y, g, m: y @ x**2,
    "ComplexReal(Concat(x,y))": lambda x, y, g, m: np.concatenate([x, y])[0::2],
    "ComplexImag(Concat(x,y))": lambda x, y, g, m: np.concatenate([x, y])[1::2],
    "Real2Complex(x)": lambda x, y, g, m: interleaved(x + 0j),
    "Imag2Complex(x)": lambda x, y, g, m: interleaved(x * 1j),
    "Conj(Concat(x,y))": lambda x, y, g, m: interleaved(complexes(np.concatenate([x, y])).conj()),
    "ComplexAbs(Concat(x,y))": lambda x, y, g, m: abs(complexes(np.concatenate([x, y]))),
    "ComplexSquareAbs(Concat(x,y))": lambda x, y, g, m: abs(complexes(np.concatenate([x, y]))) ** 2,
    "ComplexAngle(Concat(x,y))": lambda x, y, g, m: np.angle(complexes(np.concatenate([x, y]))),
    "ComplexSum(Concat(x,y))": lambda x, y, g, m: interleaved(complexes(np.concatenate([x, y])).sum()),
    "ComplexSumT(x[0:2],6)": lambda x, y, g, m: np.tile(x[:2], 3),
    "ComplexAdd(Concat(x,y),y[0:2])": lambda x, y, g, m: interleaved(complexes(np.concatenate([x, y])) + complexes(y[:2])),
    "ComplexSubtract(Concat(x,y),y[0:2])": lambda x, y, g, m: interleaved(complexes(np.concatenate([x, y])) - complexes(y[:2])),
    "ComplexMult(Concat(x,y),Concat(y,y))": lambda x, y, g, m: interleaved(
        complexes(np.concatenate([x, y])) * complexes(np.concatenate([y, y]))
    ),
    "ComplexScal(x[1:3],Concat(y,y))": lambda x, y, g, m: interleaved(complexes(x[1:]) * complexes(np.concatenate([y, y]))),
    "ComplexRealScal(g,Concat(x,y))": lambda x, y, g, m: g * np.concatenate([x, y]),
    "ComplexDivide(Concat(x,y),y[0:2])": lambda x, y, g, m: interleaved(complexes(np.concatenate([x, y])) / complexes(y[:2])),
    "ComplexExp(Concat(x,y))": lambda x, y, g, m: interleaved(np.exp(complexes(np.concatenate([x, y])))),
    "ComplexExp1j(x)": lambda x, y, g, m: interleaved(np.exp(1j * x)),
    "IntCst(7)*x": lambda x, y, g, m: 7 * x,
    "IntInv(4)*x": lambda x, y, g, m: x / 4,
    "RatCst(2,3)*x": lambda x, y, g, m: x * 2 / 3,
    "Zero(3)+x": lambda x, y, g, m: x,
    "Sum(x)": lambda x, y, g, m: x.sum(),
    "SumT(g,4)": lambda x, y, g, m: np.repeat(g, 4),
    "Max(x)": lambda x, y, g, m: x.max(),
    "Min(x)": lambda x, y, g, m: x.min(),
    "ArgMax(x)": lambda x, y, g, m: x.argmax(),
    "ArgMin(x)": lambda x, y, g, m: x.argmin(),
    "Elem(x,2)": lambda x, y, g, m: x[2],
    "ElemT(g,4,1)": lambda x, y, g, m: np.array([0, g[0], 0, 0]),
    "Extract(x,1,2)": lambda x, y, g, m: x[1:3],
    "ExtractT(x,1,5)": lambda x, y, g, m: np.array([0, *x, 0]),
    "Concat(x,y)": lambda x, y, g, m: np.concatenate([x, y]),
    "OneHot(g*3,5)": lambda x, y, g, m: np.eye(5)[int(g[0] * 3 + 0.5)],
    "MatVecMult(m,x)": lambda x, y, g, m: m.reshape(3, 3) @ x,
    "VecMatMult(x,m)": lambda x, y, g, m: x @ m.reshape(3, 3),
    "TensorProd(x,y)": lambda x, y, g, m: np.outer(x, y),
    "Kron(x,m,Ind(1,3),Ind(3,3))": lambda x, y, g, m: np.kron(x[None], m.reshape(3, 3)),
    "TensorDot(m,x,Ind(3,3),Ind(3),Ind(0),Ind(0))": lambda x, y, g, m: np.tensordot(m.reshape(3, 3), x, ((0,), (0,))),
    "DifferenceMatrix(x,y)": lambda x, y, g, m: np.subtract.outer(x, y),
    "Add(x,y)": lambda x, y, g, m: x + y,
    "Subtract(x,y)": lambda x, y, g, m: x - y,
    "Mult(x,y)": lambda x, y, g, m: x * y,
    "Divide(x,y)": lambda x, y, g, m: x / y,
    "Scalprod(x,y)": lambda x, y, g, m: x @ y,
    "Equal(x,x+0)": lambda x, y, g, m: x == x,
    "NotEqual(x,y)": lambda x, y, g, m: x != y,
    "LessThan(x,y)": lambda x, y, g, m: x < y,
    "LessOrEqual(x,y)": lambda x, y, g, m: x <= y,
    "BSpline(Concat(x-1,x,x+1),y[0],2)": lambda x, y, g, m: np.nan_to_num(
        [scipy.interpolate.BSpline.basis_element(t, extrapolate=False)(y[0])
         for t in np.lib.stride_tricks.sliding_window_view(np.concatenate([x - 1, x, x + 1]), 4)]
    ),
    "SoftDTW_SqDist(x[0],y[0:2],g)": lambda x, y, g, m: ((x[0] - y[:2]) ** 2).sum(),
    "Factorize(x*y,y)": lambda x, y, g, m: x * y,
    "Grad(Exp(-SqDist(x,y)),x,g)": lambda x, y, g, m: -2 * (x - y) * np.exp(-((x - y) @ (x - y))) * g,
    "Grad_WithSavedForward(Exp(-SqDist(x,y)),x,g,g)": lambda x, y, g, m: -2 * (x - y) * np.exp(-((x - y) @ (x - y))) * g,
    "Diff_WithSavedForward(Exp(-SqDist(x,y)),x,y,g)": lambda x, y, g, m: -2 * ((x - y) @ y) * np.exp(-((x - y) @ (x - y))),
    "Diff(Exp(-SqDist(x,y)),x,y)": lambda x, y, g, m: -2 * ((x - y) @ y) * np.exp(-((x - y) @ (x - y))),
    "GradMatrix(x**2*y,x)": lambda x, y, g, m: np.diag(2 * x * y),
    "Divergence(x**2*y,x)": lambda x, y, g, m: 2 * x @ y,
    "Laplacian(Exp(-SqDist(x,y)),x)": lambda x, y, g, m: (4 * (x - y) @ (x - y) - 6) * np.exp(-((x - y) @ (x - y))),
    "TraceOperator(MatVecMult(m,x),x)*g": lambda x, y, g, m: m.reshape(3, 3).trace() * g,
    "AdjointOperator(MatVecMult(m,x),x,y)": lambda x, y, g, m: m.reshape(3, 3).T @ y,
}  # fmt: skip


@pytest.mark.parametrize("text", MEANINGS)
def test_meaning(text, random):
    x, y = np.sort(random.uniform(0.1, 0.9, (4, 3))), random.uniform(0.1, 0.9, (5, 3))
    g, m = np.array([0.7]), random.normal(size=9)
    formula = parse(text, ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)", "m = Pm(9)"])
    found = np.broadcast_to(evaluate(formula, [x, y, g, m]), (4, 5, formula.dim))
    for i in range(4):
        for j in range(5):
            np.testing.assert_allclose(found[i, j], np.ravel(MEANINGS[text](x[i], y[j], g, m)), rtol=1e-12, atol=1e-12)
    if "Operator" not in text:
        assert parse(to_keops(formula)) is formula


def test_every_documented_name_has_a_meaning():
    tested = {text.partition("(")[0] for text in MEANINGS}
    assert set(keops.OPERATORS) <= tested
    assert tested <= set(functions())


def test_every_name_of_the_table_can_be_written():
    assert {op.keops or name for name, op in OPERATORS.items() if op.structure != "leaf" and not op.internal} <= set(functions())


# ---- round trips


@pytest.mark.parametrize("name", [n for n, op in OPERATORS.items() if op.structure != "leaf" and not op.internal])
def test_round_trip(name):
    for dim in (1, 3):
        for formula in cases(name, dim):
            assert parse(to_keops(formula)) is formula
            assert parse(to_keops(-formula * 2)) is -formula * 2


@given(random_formulas(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-9, 9))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_round_trip(formula, number, whole):
    for whole_formula in (formula, formula * number - whole / (formula + 1), -(number - formula), apply("pow", formula, number)):
        assert parse(to_keops(whole_formula)) is whole_formula


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, -1.0, 0.5, 1 / 3, -2 / 7, 1e300, -1e-300, math.pi, 1e6, math.inf, -math.inf, math.nan, 5e-324]
)
def test_numbers(value):
    text = to_keops(const(value))
    assert parse(text) is const(value)
    assert parse(to_keops(X * value)) is X * value
    assert parse(to_keops(-const(value))) is -const(value)


def test_names_of_variables():
    formula = apply("exp", -apply("sqdist", X, Y) * G)
    assert to_keops(formula, {X: "x", Y: "y", G: "g"}) == "Exp(-SqDist(x,y)*g)"
    assert to_keops(formula, {apply("sqdist", X, Y): "D"}) == "Exp(-D*Var(2,1,2))"
    assert parse("Exp(-SqDist(x,y)*g)", {"x": X, "y": Y, "g": G}) is formula


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (X - (Y - G), "Var(0,3,0)-(Var(1,3,1)-Var(2,1,2))"),
        ((X + Y) * G, "(Var(0,3,0)+Var(1,3,1))*Var(2,1,2)"),
        (-(X * G), "-(Var(0,3,0)*Var(2,1,2))"),
        ((-X) * G, "-Var(0,3,0)*Var(2,1,2)"),
        (apply("dot", X, Y) * 0.5, "(Var(0,3,0)|Var(1,3,1))*RatCst(1,2)"),
        (apply("lt", apply("lt", X, Y), G), "(Var(0,3,0)<Var(1,3,1))<Var(2,1,2)"),
        (apply("eq", X, Y), "Equal(Var(0,3,0),Var(1,3,1))"),
        (apply("powi", X, attrs=(-2,)), "Pow(Var(0,3,0),-2)"),
        (apply("mod", X, G), "Mod(Var(0,3,0),Var(2,1,2),IntCst(0))"),
        (apply("softplus", X), "softplus(Var(0,3,0))"),
        (-const(2) * X, "Minus(IntCst(2))*Var(0,3,0)"),
        (const(-2) * X, "IntCst(-2)*Var(0,3,0)"),
        (const(math.pi) * X, "3.141592653589793*Var(0,3,0)"),
    ],
)
def test_written(formula, text):
    assert to_keops(formula) == text


def test_a_formula_that_shares_too_much():
    formula = X
    for _ in range(40):
        formula = formula + formula
    with pytest.raises(ValueError, match="takes more than 1000000 characters: what is shared in it is written out each time"):
        to_keops(formula)


# ---- errors


@pytest.mark.parametrize(
    ("text", "message", "marked"),
    [
        ("Epx(-G*SqDist(X,Y))*B", "unknown operator 'Epx', did you mean 'Exp'?", "Epx"),
        ("Exp(-G*SqDits(X,Y))*B", "unknown operator 'SqDits', did you mean 'SqDist'?", "SqDits"),
        ("exp(X)", "unknown operator 'exp', did you mean 'Exp'?", "exp"),
        ("Tanh(X)", "unknown operator 'Tanh', did you mean 'tanh'?", "Tanh"),
        ("Zzzzzz(X)", "unknown operator 'Zzzzzz'\n", "Zzzzzz"),
        ("Exp(Z)", "unknown alias 'Z'; the aliases are X, Y, G, B", "Z"),
        ("Exp", "'Exp' is an operator: its operands follow in brackets", "Exp"),
        ("X + Exp(X,Y)", "Exp takes 1 formula, not 2 arguments", "Exp"),
        ("Exp()", "Exp takes 1 formula, not 0 arguments", "Exp"),
        ("Clamp(X,1)", "Clamp takes 3 formulas, not 2 arguments", "Clamp"),
        ("Elem(X)", "Elem takes 1 formula and 1 whole number, not 1 argument", "Elem"),
        ("Extract(X,1)", "Extract takes 1 formula and 2 whole numbers, not 2 arguments", "Extract"),
        ("Concat()", "Concat takes one formula or more, not 0 arguments", "Concat"),
        ("TensorDot(X,Y,Ind(3))", "TensorDot takes 2 formulas and 4 sequences of numbers and possibly another, not 3", "TensorDot"),
        ("Vi(3)*X", "Vi takes 2 whole numbers, not 1 argument", "Vi"),
        ("Elem(X,Y+1)", "Elem takes a whole number here", "Y+1"),
        ("Elem(X,1.5)", "Elem takes a whole number here", "1.5"),
        ("Kron(X,Y,3,[3])", r"Kron takes a sequence of whole numbers, as Ind(2,3) or [2,3] here", "3,["),
        ("Elem(X,5)", "components 5 to 5 asked of a vector of dimension 3", "Elem"),
        ("Elem(X,-1)", "components -1 to -1 asked of a vector of dimension 3", "Elem"),
        ("X[5]", "components 5 to 5 asked of a vector of dimension 3", "["),
        ("Extract(X,1,3)", "components 1 to 3 asked of a vector of dimension 3", "Extract"),
        ("X[2:2]", "components 2 to 1 asked of a vector of dimension 3", "["),
        ("ExtractT(X,1,3)", "a vector of dimension 3 does not fit at component 1 of one of dimension 3", "ExtractT"),
        ("ElemT(X,4,0)", "one number is put in place, not a vector of dimension 3", "ElemT"),
        ("X + Concat(Y,Y)", "inner dimensions 3 and 6 do not broadcast", "+"),
        ("SqDist(X,Y[0:2])", "inner dimensions 3 and 2 do not broadcast", "SqDist"),
        ("MatVecMult(X,Y[0:2])", "3 components are no matrix of 2 columns", "MatVecMult"),
        ("SymSqNorm(X,Y)", "3 weights for a vector of dimension 3, which takes 9", "SymSqNorm"),
        ("OneHot(X,3)", "a one-hot vector encodes one number, not 3", "OneHot"),
        ("ComplexAbs(X)", "a complex vector has an even dimension", "ComplexAbs"),
        ("IntInv(0)", "1/0 is no number", "IntInv"),
        ("Zero(0)", "a vector of 0 components does not exist", "Zero"),
        ("Grad(X)", "Grad takes 2 formulas and possibly another, not 1 argument", "Grad"),
        ("Grad(X*Pm(4,3),Pm(4,3))", "by a parameter, p4, the cotangent must be given, as Grad(F,p,e)", "Grad"),
        ("Grad(X*Y,X)", "variable 2 is Var(2,1,2) already", "Grad"),
        ("Grad(X,X+Y,Y)", "derivatives are taken by variables, not by x0 + y1", "Grad"),
        ("Grad_WithSavedForward(X,X,Y,X[0])", "the saved value of a formula of dimension 3 has that dimension, not 1", "Grad_WithSaved"),
        ("TraceOperator(X*X,X)", "x0 * x0 is not built as a linear function of x0", "TraceOperator"),
        ("X + Vj(0,3)", "variable 0 is Var(0,3,0) already", "Vj"),
        ("Vi(9,2) + Vi(9,1)", "variable 9 is Var(9,2,0) already", "Vi(9,1"),
        ("Var(9,2,3)", "a variable's category is 0 (i), 1 (j) or 2 (parameter), not 3", "Var"),
        ("X Y", "an operator is expected before 'Y'", "Y"),
        ("X 2", "an operator is expected before '2'", "2"),
        ("X +", "the formula ends too early", ""),
        ("", "the formula ends too early", ""),
        ("X * / Y", "a formula is expected here, not '/'", "/"),
        ("Exp(X,)", "a formula is expected here, not ')'", ")"),
        ("X, Y", "a comma stands between the arguments of an operator", ","),
        ("(X,Y)", "a comma stands between the arguments of an operator", ","),
        ("Exp(X", "this bracket is not closed", "("),
        ("(X", "this bracket is not closed", "("),
        ("X)", "no bracket is open here", ")"),
        ("X]", "no bracket is open here", "]"),
        ("X[1", "a bracket is expected here", ""),
        ("X[a]", "a whole number is expected here", "a"),
        ("Kron(X,Y,[3 1],[1,3])", "a comma or a bracket is expected here", "1]"),
        ("Exp(Ind(1,2))", "a formula is expected here", "Ind(1,2)"),
        ("Ind(X)", "a whole number is expected here", "X"),
        ("[1,2]", "a formula is expected here", "[1,2]"),
        ("'k'", "a formula is expected here", "'k'"),
        ("X < Y < X", "'<' and '<' in a row: put brackets around the first comparison", "< X"),
        ("X ? Y", "'?' has no meaning in a formula", "?"),
        ("X = Y", "an operator is expected before '='", "="),
        ("9" * 400, "the number is too large", "9" * 400),
        ("1e999", "the number is too large", "1e999"),
        ("Exp(\n  Epx(X))", "unknown operator 'Epx', did you mean 'Exp'?", "Epx"),
    ],
)  # fmt: skip
def test_errors(text, message, marked):
    with pytest.raises(FormulaError) as caught:
        parse(text, ALIASES)
    said, line, marks = str(caught.value).rsplit("\n", 2)
    assert f"{said}\n".startswith(message)
    assert isinstance(caught.value, ValueError)
    assert line[2:] in text.split("\n")
    column = text.rindex(marked) if marked else len(text.rstrip())
    assert caught.value.column == column
    assert len(marks) - len(marks.lstrip()) - 2 + text.rfind("\n", 0, column) + 1 == column
    assert set(marks.strip()) == {"^"}


@pytest.mark.parametrize(
    ("aliases", "message", "column"),
    [
        (["X Vi(3)"], "an alias is written as in 'X = Vi(3)'", 0),
        (["X = Exp(3)"], "an alias is written as in 'X = Vi(3)'", 0),
        (["X = Vi(3)+1"], "an alias is written as in 'X = Vi(3)'", 0),
        ([""], "an alias is written as in 'X = Vi(3)'", 0),
        (["X = Vi(3", "Y = Vj(3)"], "this bracket is not closed", 6),
        (["X = Vi()"], "Vi takes 2 whole numbers, not 0 arguments", 4),
        (["X = Vi(a)"], "unknown alias 'a'", 7),
        (["X = Vi(0)"], "a variable has a number from 0 on and a dimension of at least 1, not 0 and 0", 4),
        (["X = Var(1,2)"], "Var takes 3 whole numbers, not 2 arguments", 4),
        (["X = Vi(3)", "X = Vj(3)"], "'X' is an alias already", 0),
        (["X = Vi(0,3)", "Y = Vj(0,3)"], "variable 0 is 'X' already, as Var(0,3,0)", 4),
    ],
)
def test_errors_in_aliases(aliases, message, column):
    with pytest.raises(FormulaError) as caught:
        parse("X", aliases)
    assert str(caught.value).startswith(message)
    assert caught.value.column == column
    assert caught.value.text in aliases


def test_aliases_are_a_list():
    with pytest.raises(TypeError, match="aliases are a list of texts, not the text 'X = Vi"):
        parse("X", "X = Vi(3)")


@given(st.text(alphabet="XYGB+-*/|<>=()[],.:0123456789eExpVi ", max_size=40))
@settings(max_examples=500, deadline=None)
def test_no_text_does_worse_than_an_error(text):
    try:
        found = parse(text, ALIASES)
    except FormulaError as error:
        assert 0 <= error.column <= len(text)
    else:
        assert isinstance(found, Node)
