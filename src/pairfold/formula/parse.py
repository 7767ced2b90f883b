"""Formulas as text: KeOps's syntax, read and written.

``Exp(-G*SqDist(X,Y))*B`` with the aliases ``G = Pm(1)``, ``X = Vi(3)`` … is read to the formula that the operators build, nothing
simplified; what KeOps has no name for goes by the name of its record, as in ``tanh(X)``. `to_keops` writes a formula so that
`parse` gives the same object back.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import inf, isfinite
from typing import Any, NoReturn

from .graph import Node, apply, const, topological, value_of, variables
from .keops import SPELLINGS, Spelling
from .operator import OPERATORS
from .operators import power

LONGEST = 1_000_000  # characters of a formula as text


class FormulaError(ValueError):
    """A text that is no formula; the message shows where.

    Attributes
    ----------
    text : str
        What was read.
    column : int
        Where in it the fault is, from 0.
    """

    def __init__(self, message: str, text: str, column: int, length: int = 1):
        self.text, self.column = text, column
        start = text.rfind("\n", 0, column) + 1
        line = text[start:].partition("\n")[0]
        marks = "^" * max(1, min(length, len(line) - (column - start)))
        super().__init__(f"{message}\n  {line}\n  {' ' * (column - start)}{marks}")


# ---- tokens


@dataclass(frozen=True)
class Token:
    """A ``"number"``, ``"name"``, ``"text"`` in quotes or ``"symbol"``, or the ``"end"``."""

    kind: str
    text: str
    start: int


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<text>'[^']*'|"[^"]*")
      | (?P<symbol>\*\*|==|!=|<=|>=|[-+*/|<>()\[\],:=])
    )""",
    re.VERBOSE,
)


def _tokens(text: str) -> list[Token]:
    found, place = [], 0
    end = len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            place += len(text[place:]) - len(text[place:].lstrip())
            raise FormulaError(f"{text[place]!r} has no meaning in a formula", text, place)
        kind = str(match.lastgroup)
        found.append(Token(kind, match[kind], match.start(kind)))
        place = match.end()
    return [*found, Token("end", "", end)]


# ---- operators between formulas, by how tightly they bind

COMPARISON, BAR, SUM, PRODUCT, SIGN, POWER, ATOM = range(1, 8)
INFIX: dict[str, tuple[int, str]] = {
    "==": (COMPARISON, "eq"),
    "!=": (COMPARISON, "ne"),
    "<=": (COMPARISON, "le"),
    ">=": (COMPARISON, "ge"),
    "<": (COMPARISON, "lt"),
    ">": (COMPARISON, "gt"),
    "|": (BAR, "dot"),
    "+": (SUM, "add"),
    "-": (SUM, "sub"),
    "*": (PRODUCT, "mul"),
    "/": (PRODUCT, "div"),
    "**": (POWER, "pow"),
}


@lru_cache(maxsize=1)
def functions() -> dict[str, Spelling]:
    """Every name that can be called."""
    found = dict(SPELLINGS)
    for op in OPERATORS.values():
        if op.structure != "leaf" and not op.internal:
            any_number = op.arity == 0 and not op.attributes
            build = _applying(op.name)
            found.setdefault(op.keops or op.name, Spelling(build, -1 if any_number else op.arity, tuple(op.attributes.values())))
    return found


def _applying(name: str) -> Callable[..., Node]:
    def build(*arguments: Any) -> Node:
        nodes = [a for a in arguments if isinstance(a, Node)]
        return apply(name, *nodes, attrs=tuple(arguments[len(nodes) :]))

    return build


# ---- reading


@dataclass(frozen=True)
class Item:
    """What has been read: a formula; or a number, a sequence of numbers or a text, which may yet be a static parameter."""

    value: Any
    start: int
    end: int


@dataclass
class Frame:
    """What is open: the whole, brackets or the call of a function; and what waits in it for operands."""

    opened: Token | None = None
    function: Token | None = None
    arguments: list[Item] = field(default_factory=list)
    operands: list[Item] = field(default_factory=list)
    operators: list[tuple[int, Token]] = field(default_factory=list)


def parse(text: str, aliases: Iterable[str] | Mapping[str, Node] = ()) -> Node:
    """Read a formula in KeOps's syntax.

    Parameters
    ----------
    text : str
        Numbers, aliases, ``+ - * / ** |``, comparisons, brackets, components ``F[k]`` and ``F[k:l]``, and functions by KeOps's names.
    aliases : iterable of str, or mapping of str to Node
        As KeOps has them: ``"X = Vi(3)"``, a variable of dimension 3, numbered by its place among the aliases, ``"X = Vi(0,3)"`` with
        its number, also ``Vj`` and ``Pm``, and ``"X = Var(0,3,0)"``. Or formulas by name.

    Returns
    -------
    Node
        Over the variables that the aliases, or ``Vi(0,3)`` in the formula itself, name.

    Raises
    ------
    FormulaError
        Where the text is no formula: the message shows where, and what was expected.

    Examples
    --------
    >>> parse("Exp(-G*SqDist(X,Y))*B", ["G = Pm(1)", "X = Vi(3)", "Y = Vj(3)", "B = Vj(1)"])
    exp((-p0) * sqdist(x1, y2)) * y3
    >>> parse("Epx(Vi(0,3))")
    Traceback (most recent call last):
    ...
    pairfold.formula.parse.FormulaError: unknown operator 'Epx', did you mean 'Exp'?
      Epx(Vi(0,3))
      ^^^
    """
    return Reader(text, dict(aliases) if isinstance(aliases, Mapping) else read_aliases(aliases)).read()


def read_aliases(aliases: Iterable[str]) -> dict[str, Node]:
    """The variables that aliases stand for, by name: ``"X = Vi(3)"``, ``"X = Vi(0,3)"`` or ``"X = Var(0,3,0)"``."""
    if isinstance(aliases, str):
        raise TypeError(f"aliases are a list of texts, not the text {aliases!r}")
    found: dict[str, Node] = {}
    for place, text in enumerate(aliases):
        tokens = _tokens(text)
        named = len(tokens) > 2 and tokens[0].kind == "name" and tokens[1].text == "="
        name, kind, *rest = (tokens[0], *tokens[2:]) if named else (Token("end", "", 0), *tokens)
        # KeOps takes those without a name too: the formula says Var(0,3,0) for them.
        without_number = kind.text != "Var" and len(rest) > 2 and rest[2].text == ")"
        variable = None
        if kind.text in ("Vi", "Vj", "Pm", "Var"):
            variable = Reader(text, {}, kind.start, {kind.start: place} if without_number else {}).read()
        if variable is None or variable.op.name != "var":
            raise FormulaError("an alias is written as in 'X = Vi(3)'", text, 0, len(text))
        if name.text in found:
            raise FormulaError(f"{name.text!r} is an alias already", text, name.start, len(name.text))
        for other, known in found.items():
            if known.attrs[1] == variable.attrs[1] and known is not variable:
                message = f"variable {known.attrs[1]} is {other!r} already, as {_variable(known)}"
                raise FormulaError(message, text, kind.start, len(text) - kind.start)
        if named:
            found[name.text] = variable
    return found


class Reader:
    """Reads a text by the binding powers of operators, with a stack of its own: formulas may be deeper than Python's."""

    def __init__(self, text: str, names: Mapping[str, Node], start: int = 0, places: Mapping[int, int] | None = None):
        self.text, self.names = text, names
        self.tokens = iter([t for t in _tokens(text) if t.start >= start])
        self.ahead = next(self.tokens)
        self.places = places or {}  # the numbers of variables that are given without, by where they are
        self.variables = {v.attrs[1]: v for v in topological(names.values()) if v.op.name == "var"}

    def _next(self) -> Token:
        token, self.ahead = self.ahead, next(self.tokens, self.ahead)
        return token

    def _fail(self, message: str, at: Token | Item) -> NoReturn:
        length = len(at.text) if isinstance(at, Token) else at.end - at.start
        raise FormulaError(message, self.text, at.start, length)

    def read(self) -> Node:
        """The formula that the whole text is."""
        frames = [Frame()]
        wanted = True  # whether an operand comes next, else what may follow one
        while True:
            token, frame = self._next(), frames[-1]
            if wanted:
                item = self._operand(token, frames)
                if item:
                    frame.operands.append(item)
                    wanted = False
            elif token.text in INFIX and token.kind == "symbol":
                self._shift(frame, token)
                wanted = True
            elif token.text == "[":
                frame.operands.append(self._components(frame.operands.pop(), token))
            elif token.text == "," and frame.function:
                frame.arguments.append(self._reduced(frame))
                wanted = True
            elif token.text == ")" and frame.opened:
                frames.pop()
                item = self._reduced(frame)
                frames[-1].operands.append(self._called(frame.function, [*frame.arguments, item], token) if frame.function else item)
            elif token.kind == "end" and frame.opened:
                self._fail("this bracket is not closed", frame.opened)
            elif token.kind == "end":
                return self._formula(self._reduced(frame))
            elif token.text in (")", "]", ","):
                self._fail("a comma stands between the arguments of an operator" if token.text == "," else "no bracket is open here", token)
            else:
                self._fail(f"an operator is expected before {token.text!r}", token)

    # ---- operands
    def _operand(self, token: Token, frames: list[Frame]) -> Item | None:
        """The operand that a token is, or None where it begins one."""
        end = token.start + len(token.text)
        if token.kind == "number":
            return Item(self._value(token), token.start, end)
        if token.kind == "text":
            return Item(token.text[1:-1], token.start, end)
        if token.text in ("-", "+"):
            frames[-1].operators.append((SIGN, token))
            return None
        if token.text == "(":
            frames.append(Frame(token))
            return None
        if token.text == "[":
            return self._sequence(token)
        if token.kind == "name" and self.ahead.text == "(":
            opened = self._next()
            if self.ahead.text == ")":
                return self._called(token, [], self._next())
            frames.append(Frame(opened, token))
            return None
        if token.kind == "name":
            return Item(self._named(token), token.start, end)
        self._fail("the formula ends too early" if token.kind == "end" else f"a formula is expected here, not {token.text!r}", token)

    def _value(self, token: Token) -> int | float:
        value = float(token.text)
        if value == inf:
            self._fail("the number is too large", token)
        return int(token.text) if token.text.isdigit() else value

    def _named(self, token: Token) -> Node | float:
        if token.text in self.names:
            return self.names[token.text]
        if token.text in ("inf", "nan"):
            return float(token.text)
        if token.text in functions():
            self._fail(f"{token.text!r} is an operator: its operands follow in brackets", token)
        known = f"the aliases are {', '.join(self.names)}" if self.names else "there are no aliases"
        self._fail(f"unknown alias {token.text!r}{_suggestion(token.text, self.names) or '; ' + known}", token)

    def _whole(self) -> int:
        """A whole number, as indices are."""
        token = self._next()
        sign = -1 if token.text == "-" else 1
        token = self._next() if sign < 0 else token
        if not token.text.isdigit():
            self._fail("a whole number is expected here", token)
        return sign * int(token.text)

    def _sequence(self, opened: Token) -> Item:
        numbers: list[int] = []
        while self.ahead.text != "]":
            numbers.append(self._whole())
            if self.ahead.text == ",":
                self._next()
            elif self.ahead.text != "]":
                self._fail("a comma or a bracket is expected here", self.ahead)
        return Item(tuple(numbers), opened.start, self._next().start + 1)

    def _components(self, of: Item, opened: Token) -> Item:
        """``F[k]`` and ``F[k:l]``."""
        start = self._whole()
        length = 1
        if self.ahead.text == ":":
            self._next()
            length = self._whole() - start
        if self.ahead.text != "]":
            self._fail("a bracket is expected here", self.ahead)
        end = self._next().start + 1
        return Item(self._built(lambda: apply("extract", self._formula(of), attrs=(start, length)), opened), of.start, end)

    def _formula(self, item: Item) -> Node:
        if isinstance(item.value, Node):
            return item.value
        if isinstance(item.value, (int, float)):
            return const(item.value)
        self._fail("a formula is expected here", item)

    def _built(self, build: Callable[[], Node], at: Token) -> Node:
        """What `build` gives; where that is an error, one that shows the place."""
        try:
            return build()
        except FormulaError:
            raise
        except ValueError as error:
            self._fail(str(error).partition(" in the formula ")[0], at)  # the text shows it

    # ---- operators
    def _shift(self, frame: Frame, token: Token) -> None:
        """Put an operator on the stack, behind those that bind more tightly."""
        binding, _ = INFIX[token.text]
        while frame.operators:
            before, earlier = frame.operators[-1]
            if before == binding == COMPARISON:
                self._fail(f"{earlier.text!r} and {token.text!r} in a row: put brackets around the first comparison", token)
            if before < binding or before == binding == POWER:
                break
            self._apply(frame)
        frame.operators.append((binding, token))

    def _reduced(self, frame: Frame) -> Item:
        """The one operand that is left when all operators have been applied."""
        while frame.operators:
            self._apply(frame)
        return frame.operands.pop()

    def _apply(self, frame: Frame) -> None:
        """Apply the operator on top of the stack."""
        binding, token = frame.operators.pop()
        right = frame.operands.pop()
        if binding == SIGN:
            frame.operands.append(Item(self._signed(token, right), token.start, right.end))
            return
        left = frame.operands.pop()

        def build() -> Node:
            if binding == POWER and isinstance(right.value, int):
                return power(self._formula(left), right.value)
            return apply(INFIX[token.text][1], self._formula(left), self._formula(right))

        frame.operands.append(Item(self._built(build, token), left.start, right.end))

    def _signed(self, token: Token, operand: Item) -> Node | float:
        if isinstance(operand.value, (int, float)):
            return -operand.value if token.text == "-" else operand.value
        return -self._formula(operand) if token.text == "-" else self._formula(operand)

    # ---- functions
    def _called(self, name: Token, arguments: list[Item], closed: Token) -> Item:
        if name.text == "Ind":
            values = [a.value for a in arguments]
            for value, argument in zip(values, arguments, strict=True):
                if not isinstance(value, int):
                    self._fail("a whole number is expected here", argument)
            return Item(tuple(values), name.start, closed.start + 1)
        known = functions()
        if name.text not in known:
            self._fail(f"unknown operator {name.text!r}{_suggestion(name.text, known)}", name)
        spelling = known[name.text]
        if name.start in self.places:
            arguments = [Item(self.places[name.start], name.start, name.start), *arguments]
        operands, parameters = self._split(name, spelling, arguments)
        node = self._built(lambda: spelling.build(*operands, *parameters), name)
        if name.text in ("Vi", "Vj", "Pm", "Var") or len(operands) < spelling.arity:  # it has made a variable
            for made in variables((node,)):
                other = self.variables.setdefault(made.attrs[1], made)
                if other.attrs[:3] != made.attrs[:3]:
                    self._fail(f"variable {made.attrs[1]} is {_variable(other)} already", name)
        return Item(node, name.start, closed.start + 1)

    def _split(self, name: Token, spelling: Spelling, arguments: list[Item]) -> tuple[list[Node], list[Any]]:
        """The arguments of a call: formulas, and the static parameters behind them."""
        count = len(arguments) if spelling.arity < 0 else spelling.arity
        most = count + len(spelling.attributes)
        least = 1 if spelling.arity < 0 else most - spelling.optional
        if not least <= len(arguments) <= most:
            given = "1 argument" if len(arguments) == 1 else f"{len(arguments)} arguments"
            self._fail(f"{name.text} takes {_arguments(spelling)}, not {given}", name)
        for argument, kind in zip(arguments[count:], spelling.attributes, strict=False):
            if not isinstance(argument.value, kind):
                self._fail(f"{name.text} takes {_KINDS[kind]} here", argument)
        return [self._formula(a) for a in arguments[:count]], [a.value for a in arguments[count:]]


_KINDS = {int: "a whole number", tuple: "a sequence of whole numbers, as Ind(2,3) or [2,3]", str: "a text"}
_PLURALS = {int: ("whole number", "whole numbers"), tuple: ("sequence of numbers", "sequences of numbers"), str: ("text", "texts")}


def _arguments(spelling: Spelling) -> str:
    """What a function takes, in words."""
    if spelling.arity < 0:
        return "one formula or more"
    formulas = spelling.arity - (0 if spelling.attributes else spelling.optional)
    parts = [f"{formulas} formula{'s' * (formulas != 1)}"] * (formulas > 0)
    required = spelling.attributes[: len(spelling.attributes) - spelling.optional]
    for kind in dict.fromkeys(required):
        count = required.count(kind)
        parts.append(f"{count} {_PLURALS[kind][count != 1]}")
    if spelling.optional:
        parts.append("possibly another")
    return " and ".join(parts)


def _suggestion(name: str, known: Iterable[str]) -> str:
    """The known name that is most like one."""
    folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    return f", did you mean {folded[near[0]]!r}?" if near else ""


# ---- writing

_SYMBOLS = {
    name: (binding, symbol) for symbol, (binding, name) in INFIX.items() if name not in ("eq", "ne", "pow")
}  # KeOps reads these else


def to_keops(formula: Node, names: Mapping[Node, str] | None = None) -> str:
    """Write a formula in KeOps's syntax.

    Parameters
    ----------
    formula : Node
    names : mapping of Node to str, optional
        What subformulas, most of them variables, are called; other variables are written as ``Var(0,3,0)``.

    Returns
    -------
    str
        What `parse` reads as this very formula, but for what is known of the signs of variables. KeOps reads it too, where it has all of
        its operators.

    Raises
    ------
    ValueError
        Where the text would be very long: what is shared is written out each time.

    Examples
    --------
    >>> to_keops(parse("Exp(-(X-Y)**2)", ["X = Vi(1)", "Y = Vj(1)"]))
    'Exp(-Square(Var(0,1,0)-Var(1,1,1)))'
    """
    shown: dict[Node, tuple[str, int]] = {node: (name, ATOM) for node, name in (names or {}).items()}
    for node in topological([formula], stop=shown):
        if node not in shown:
            shown[node] = _written(node, [shown[a] for a in node.args])
            if len(shown[node][0]) > LONGEST:
                raise ValueError(f"the formula takes more than {LONGEST} characters: what is shared in it is written out each time")
    return shown[formula][0]


def _written(node: Node, args: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """A node's text and how tightly it holds together, from those of its operands."""

    def at_least(part: tuple[str, int], binding: int) -> str:
        return part[0] if part[1] >= binding else f"({part[0]})"

    name = node.op.name
    if name == "var":
        return _variable(node), ATOM
    value = value_of(node)
    if value is not None:
        return _number(value)
    if name in _SYMBOLS:
        binding, symbol = _SYMBOLS[name]
        left, right = args
        return at_least(left, binding + (binding == COMPARISON)) + symbol + at_least(right, binding + 1), binding
    if name == "neg" and value_of(node.args[0]) is None:
        return "-" + at_least(args[0], SIGN), SIGN
    texts = [text for text, _ in args]
    if name == "mod":
        texts.append(_number(0.0)[0])
    spelling = "Mod" if name == "mod" else node.op.keops or name
    return f"{spelling}({','.join([*texts, *map(_parameter, node.attrs)])})", ATOM


def _variable(node: Node) -> str:
    axis, index, dim, *_ = node.attrs
    return f"Var({index},{dim},{'ijp'.index(axis)})"


def _number(value: float) -> tuple[str, int]:
    """Numbers as KeOps has them, whole or quotients, where that is exact; else in decimals."""
    if isfinite(value) and str(value) != "-0.0":
        near = Fraction(value).limit_denominator(1_000_000)
        if near.numerator / near.denominator == value:
            whole = near.denominator == 1
            return (f"IntCst({near.numerator})" if whole else f"RatCst({near.numerator},{near.denominator})"), ATOM
    text = repr(value)
    return text, SIGN if text.startswith("-") else ATOM


def _parameter(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    return repr(value)
