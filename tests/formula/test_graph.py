"""Interning, printing, simplification and the checks of dimensions."""

from __future__ import annotations

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

from pairfold.formula import graph
from pairfold.formula.graph import Node, apply, const, fingerprint, rewrite, substitute, to_string, topological, value_of, var, variables
from pairfold.formula.operators import OPERATORS, power
from pairfold.formula.reference import evaluate
from pairfold.formula.simplify import RULES, expand, simplify
from tests.formula.cases import SHAPED, attributes, fits, formulas
from tests.helpers import ARITY

X, Y, P = var("i", 0, 3), var("j", 1, 3), var("p", 2, 3)


# ---- interning


def test_nodes_built_alike_are_one():
    assert var("i", 0, 3) is X
    assert X + Y is apply("add", X, Y)
    assert apply("exp", X * 2 + 1) is apply("exp", X * 2 + 1)
    assert X + Y is not Y + X
    assert apply("powi", X, attrs=(3,)) is not apply("powi", X, attrs=(4,))
    assert var("i", 0, 4) is not X
    assert var("i", 0, 3, 1) is not X


@pytest.mark.parametrize(("a", "b", "same"), [(0.0, -0.0, False), (np.nan, float("nan"), True), (1, 1.0, True), (0.1, 0.1 + 2e-17, False)])
def test_constants_are_told_apart_to_the_bit(a, b, same):
    assert (const(a) is const(b)) is same


def test_nodes_are_kept_no_longer_than_used():
    gc.collect()
    before = len(graph._interned)
    kept = apply("sin", apply("cos", var("i", 99, 7) + 123.456))
    assert len(graph._interned) > before
    del kept
    gc.collect()
    assert len(graph._interned) == before


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_are_the_node_itself(copied):
    node = apply("exp", -apply("powi", apply("sqdist", X, Y) * const(-0.0), attrs=(3,)))
    assert copied(node) is node


def test_many_threads_build_one_node():
    found, barrier = [], threading.Barrier(8)

    def build():
        barrier.wait()
        found.append([apply("sin", X * (k + 0.123)) for k in range(200)])

    threads = [threading.Thread(target=build) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for other in found[1:]:
        assert all(a is b for a, b in zip(found[0], other, strict=True))


# ---- walks


def test_walks_do_not_recurse():
    node = X
    for k in range(1500):
        node = apply("sin", node + k)
    assert len(topological([node])) == 4501  # x, and for each turn a number, a sum and a sine
    assert to_string(node).startswith("sin(")
    (again,) = rewrite([node], lambda n: None)
    assert again is node


def test_operands_come_before_their_users():
    order = topological([apply("exp", X * Y + X)])
    assert all(order.index(a) < order.index(n) for n in order for a in n.args)
    assert len(order) == len(set(order))


def test_substitution_takes_the_outermost():
    inner, outer = X + Y, apply("exp", X + Y)
    assert substitute([outer + inner], {outer: P, inner: X}) == [P + X]


def test_variables_are_sorted():
    assert variables((P * Y + X,)) == (X, Y, P)


def test_fingerprints_tell_formulas_apart():
    texts = {fingerprint([f]) for f in (X + Y, Y + X, X - Y, apply("powi", X, attrs=(3,)), apply("powi", X, attrs=(4,)), X * 0.1, X * -0.1)}
    assert len(texts) == 7


def test_axes():
    assert ((X + P).axes, (Y * 2).axes, (X + Y).axes, P.axes, const(1).axes) == (graph.I, graph.J, graph.I | graph.J, 0, 0)


# ---- printing


class Read:
    """Reads a printed formula back, by Python's own rules of precedence."""

    def __init__(self, node):
        self.node = node

    def __getitem__(self, key):
        return Read(apply("extract", self.node, attrs=(key.start, key.stop - key.start)))

    def __pow__(self, other):
        if isinstance(other, Read):
            return Read(apply("pow", self.node, other.node))
        return Read(apply("square", self.node) if other == 2 else apply("powi", self.node, attrs=(other,)))

    def __rpow__(self, other):
        return Read(apply("pow", other, self.node))

    def __neg__(self):
        return Read(-self.node)


def _binary(name, swap=False):
    def method(self, other):
        other = other.node if isinstance(other, Read) else other
        return Read(apply(name, other, self.node) if swap else apply(name, self.node, other))

    return method


for _method, _name in {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge",
                       "eq": "eq", "ne": "ne", "or": "dot", "and": "logical_and"}.items():  # fmt: skip
    setattr(Read, f"__{_method}__", _binary(_name))
    setattr(Read, f"__r{_method}__", _binary(_name, swap=True))


def read(text: str, leaves=(X, Y, P)) -> Node:
    def function(name):
        op = OPERATORS[name]

        def call(*arguments, **axes):
            nodes = [a.node if isinstance(a, Read) else a for a in arguments]
            if name == "einsum":
                return Read(apply(name, *nodes[1:], attrs=(nodes[0], tuple(axes.values()))))
            count = op.arity if op.attributes else len(nodes)
            return Read(apply(name, *nodes[:count], attrs=tuple(nodes[count:])))

        return call

    names = {name: function(name) for name in OPERATORS} | {"not_": function("logical_not"), "inf": float("inf"), "nan": float("nan")}
    names |= {str(leaf): Read(leaf) for leaf in leaves}
    return eval(text.replace(" and ", " & ").replace("not(", "not_("), {}, names).node  # noqa: S307


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (apply("exp", -apply("sum", apply("square", X - Y))), "exp(-sum((x0 - y1)**2))"),
        (X + Y * P, "x0 + (y1 * p2)"),
        ((X + Y) * P, "(x0 + y1) * p2"),
        (apply("extract", X - Y, attrs=(1, 2)), "(x0 - y1)[1:3]"),
        (apply("concat", X, Y), "concat(x0, y1)"),
        (apply("dot", X, Y), "x0 | y1"),
        (apply("powi", X, attrs=(-3,)), "x0**-3"),
        (X * 0.5, "x0 * 0.5"),
        (apply("clamp", X, 0, 1), "clamp(x0, 0, 1)"),
    ],
)
def test_printing(formula, text):
    assert to_string(formula) == text


@pytest.mark.parametrize("name", [n for n, op in OPERATORS.items() if op.structure != "leaf" and n != "logical_or" and not op.internal])
def test_what_is_printed_reads_back(name):
    for formula in formulas(name, 3):
        assert read(to_string(formula), variables((formula,))) is formula
    choices = [X - Y, -P, apply("square", Y), X + 2, apply("dot", X, Y), Y]
    for start in range(len(choices)):
        operands = [choices[(start + k) % len(choices)] for k in range(ARITY[name])]
        for attrs in attributes(name, operands[0].dim) if operands else ():
            if name not in SHAPED and fits(name, operands, attrs):
                formula = apply(name, *operands, attrs=attrs)
                assert read(to_string(formula)) is formula


@pytest.mark.parametrize("formula", [apply("square", const(-2) * 1), apply("square", const(-2)), apply("powi", const(-2), attrs=(3,))])
def test_negative_numbers_read_back(formula):
    with np.errstate(all="ignore"):
        value = evaluate(formula, [])
    assert eval(to_string(formula)) == value.item()


# ---- simplification

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.0, np.inf, -np.inf, np.nan, 3.0, 1e300, 1e-300])


def build(pattern, nodes):
    if isinstance(pattern, str):
        return nodes[pattern]
    if isinstance(pattern, tuple):
        return apply(pattern[0], *(build(p, nodes) for p in pattern[1:]))
    return const(pattern)


def names_in(pattern) -> set[str]:
    if isinstance(pattern, str):
        return {pattern}
    return set().union(*map(names_in, pattern[1:])) if isinstance(pattern, tuple) else set()


@pytest.mark.parametrize("number", range(len(RULES)), ids=lambda k: str(RULES[k][0]).replace("'", ""))
def test_rule(number):
    pattern, _ = RULES[number]
    names = sorted(names_in(pattern))
    for thin in range(2 ** len(names)):
        # Rows against columns of special values: every pair of them meets.
        dims = [1 if thin >> k & 1 else 2 for k in range(len(names))]
        nodes = {n: var("ijp"[k], k, d) for k, (n, d) in enumerate(zip(names, dims, strict=True))}
        data = [np.repeat(SPECIAL[:, None], d, 1) if k < 2 else np.array([3.0, 4.0])[:d] for k, d in enumerate(dims)]
        formula = build(pattern, nodes)
        (simple,) = simplify([formula])
        assert simple is not formula
        assert simple.dim == formula.dim
        before, after = np.broadcast_arrays(evaluate(formula, data), evaluate(simple, data))
        np.testing.assert_allclose(after, before, rtol=1e-12, err_msg=f"{formula} -> {simple}")


@pytest.mark.parametrize(
    ("formula", "simple"),
    [
        (const(2) * 3 + 1, const(7)),
        (const(1) / 0, const(np.inf)),
        (apply("sum", var("i", 0, 1)), var("i", 0, 1)),
        (apply("spread", X, attrs=(3,)), X),
        (apply("neg", apply("neg", X)), X),
        (X * 1 * 1, X),
        (X * X, apply("square", X)),
        (X + 0, X + 0),  # -0.0 + 0 is 0.0
        (X * 0, X * 0),  # nan
        (X / X, X / X),
        (X - X, X - X),
        (apply("where", apply("gt", X, 0), Y, Y), Y),
    ],
)
def test_simplified(formula, simple):
    assert simplify([formula])[0] is simple


def test_simplifying_keeps_dimensions():
    thin = var("i", 0, 1)
    (simple,) = simplify([apply("where", X, thin, thin)])
    assert simple.dim == 3


@pytest.mark.parametrize("name", [n for n, op in OPERATORS.items() if op.definition])
@pytest.mark.parametrize("dim", [1, 3])
def test_definitions_mean_the_same(name, dim, random):
    for formula in formulas(name, dim):
        data = [random.normal(size=(*{"i": (3,), "j": (2,), "p": ()}[a], dim if k < 6 else 1)) for k, a in enumerate("ijpijpijp")]
        (plain,) = expand([formula])
        assert all(n.op.structure != "derived" for n in topological([plain]))
        assert plain.dim == formula.dim
        wanted = evaluate(formula, data)
        np.testing.assert_allclose(np.broadcast_to(evaluate(plain, data), wanted.shape), wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("n", [-4, -3, -2, -1, 0, 1, 2, 3, 4, 9])
def test_power(n):
    data = [np.array([[-2.0], [0.5], [3.0], [np.inf]])]
    x = var("i", 0, 1)
    np.testing.assert_allclose(np.broadcast_to(evaluate(power(x, n), data), (4, 1, 1)).ravel(), data[0].ravel() ** float(n), rtol=1e-15)


def test_constants_are_values():
    assert value_of(const(-0.0)).hex() == "-0x0.0p+0"
    assert value_of(X) is None


# ---- dimensions


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: X + var("j", 1, 4), r"inner dimensions 3 and 4 do not broadcast in the formula \(x0 \+ y1\)"),
        (lambda: apply("where", X, var("j", 1, 2), 0), "inner dimensions 3 and 2 and 1 do not broadcast in the formula where"),
        (lambda: apply("dot", X, var("j", 1, 2)), r"inner dimensions 3 and 2 do not broadcast in the formula \(x0 \| y1\)"),
        (lambda: apply("sqdist", X, var("j", 1, 2)), "inner dimensions 3 and 2 do not broadcast"),
        (lambda: apply("extract", X, attrs=(2, 2)), r"components 2 to 3 asked of a vector of dimension 3 in the formula x0\[2:4\]"),
        (lambda: apply("extract", X, attrs=(-1, 1)), "components -1 to -1 asked"),
        (lambda: apply("extract", X, attrs=(0, 0)), "asked of a vector of dimension 3"),
        (lambda: apply("spread", X, attrs=(5,)), "a vector of dimension 3 cannot be spread over 5"),
        (lambda: apply("insert", X, attrs=(2, 4)), "a vector of dimension 3 does not fit at component 2 of one of dimension 4 in the form"),
        (lambda: apply("one_hot", X, attrs=(4,)), r"a one-hot vector encodes one number, not 3 in the formula one_hot\(x0, 4\)"),
        (lambda: apply("one_hot", apply("dot", X, Y), attrs=(0,)), "a vector of 0 components does not exist"),
        (lambda: apply("cross", X, var("j", 1, 2)), "a cross product takes two vectors of dimension 3, not 3 and 2"),
        (lambda: apply("weightedsqnorm", var("p", 2, 2), X), "2 weights for a vector of dimension 3, which takes 1, 3 or 3² = 9"),
        (lambda: apply("weightedsqdist", P, X, var("j", 1, 2)), "inner dimensions 3 and 2 do not broadcast"),
        (lambda: apply("bspline", P, X, attrs=(1,)), "splines are evaluated at one number, not at 3"),
        (lambda: apply("bspline", P, var("i", 0, 1), attrs=(2,)), "splines of degree 2 take a degree of at least 0 and at least 4 knots"),
        (lambda: apply("softdtw_sqdist", X, Y, P), "the smoothness is one number, not 3"),
        (lambda: apply("matvecmult", X, var("j", 1, 2)), "3 components are no matrix of 2 columns, to be multiplied by a vector of dim"),
        (lambda: apply("vecmatmult", var("j", 1, 2), X), "3 components are no matrix of 2 rows"),
        (lambda: apply("kron", X, Y, attrs=((3,), (3, 1))), r"as many axes, not shapes \(3,\) and \(3, 1\)"),
        (lambda: apply("kron", X, Y, attrs=((2,), (3,))), "inner dimensions 3 and 3 where the axes say 2 and 3"),
        (lambda: apply("tensordot", X, Y, attrs=((3,), (4,), (0,), (0,))), "inner dimensions 3 and 3 where the axes say 3 and 4"),
        (lambda: apply("tensordot", X, Y, attrs=((3,), (3,), (1,), (0,))), r"\(1,\) are not different axes of a tensor of shape \(3,\)"),
        (lambda: apply("tensordot", X, Y, attrs=((1, 3), (3,), (0,), (0,))), r"axes \(0,\) of lengths \[1\] cannot be contracted"),
        (lambda: apply("tensordot", X, Y, attrs=((3,), (3,), (), (), (0, 2))), r"\(0, 2\) is no permutation of the 2 axes that stay"),
        (lambda: apply("kron", X, Y, attrs=((-3, -1), (3, 1))), r"\(-3, -1\) and \(3, 1\) are no shapes"),
        (lambda: apply("tensordot", X, Y, attrs=((-3, -1), (3,), (), ())), r"\(-3, -1\) and \(3,\) are no shapes"),
        (lambda: apply("polygamma", X, attrs=(0,)), "a polygamma function has an order of at least 1, not 0"),
        (lambda: apply("spread", apply("dot", X, Y), attrs=(0,)), "a vector of dimension 1 cannot be spread over 0"),
        (lambda: apply("einsum", X, Y, attrs=("ab.b->a", (2, 3))), "the axes of an einsum are written as in 'kl,l->k', not 'ab.b->a'"),
        (lambda: apply("einsum", X, Y, attrs=("ab,b->", (1, 3))), "each axis of 'ab,b->' must be in two of the three tensors at least"),
        (lambda: apply("einsum", X, Y, attrs=("aa,a->a", (3,))), "each axis of 'aa,a->a' must be in two of the three tensors at least"),
        (lambda: apply("einsum", X, Y, attrs=("ab,b->a", (3,))), r"'ab,b->a' takes the lengths of 2 axes, not \(3,\)"),
        (lambda: apply("einsum", X, Y, attrs=("ab,b->a", (2, 3))), "inner dimensions 3 and 3 where the axes say 6 and 3"),
    ],
)
def test_dimensions_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()
