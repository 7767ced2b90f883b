"""Arithmetic on lanes: the instructions every target can do, over llvmlite's IR builder.

One LLVM value holds `width` numbers (a CPU vector), or one number when `width` is 1 (a GPU thread's scalar). Operators,
reductions and the vector mathematics are written against these methods and never see which.
"""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

Value = Any  # an llvmlite value holding `width` lanes; llvmlite ships no types

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER = ir.PointerType()


@contextmanager
def uncollected() -> Iterator[None]:
    """Python's collector of garbage rests: where thousands of instructions are built, and all kept, it would look at all objects of a
    program again and again, for a quarter of the time and more.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Builder(ir.IRBuilder):
    """llvmlite's builder, but for addresses: what is known of them is computed here, and nothing is computed twice in a block.

    LLVM would come to the same code. But kernels are compiled while users wait, most of that time passes with instructions being built,
    written and read, and a third of them would be of this kind.
    """

    def __init__(self, block: ir.Block):
        super().__init__(block)
        self._emitted: dict[tuple[Any, ...], Value] = {}

    def once(self, emit: Callable[..., Value], *operands: Value) -> Value:
        """What ``emit(*operands)`` gives, which depends on nothing else; in this block it is emitted once."""
        key = (self.block, emit.__name__, *operands)
        if key not in self._emitted:
            self._emitted[key] = emit(*operands)
        return self._emitted[key]

    def add(self, a: Value, b: Value, **options: Any) -> Value:
        x, y = _known(a), _known(b)
        if x == 0 or y == 0:
            return b if x == 0 else a
        if x is not None and y is not None:
            return a.type(x + y)
        return super().add(a, b, **options) if options else self.once(super().add, a, b)

    def sub(self, a: Value, b: Value) -> Value:
        x, y = _known(a), _known(b)
        if x is not None and y is not None:
            return a.type(x - y)
        return a if y == 0 else self.once(super().sub, a, b)

    def mul(self, a: Value, b: Value) -> Value:
        x, y = _known(a), _known(b)
        if x == 0 or y == 0:
            return a.type(0)
        if x == 1 or y == 1:
            return b if x == 1 else a
        if x is not None and y is not None:
            return a.type(x * y)
        return self.once(super().mul, a, b)

    def udiv(self, a: Value, b: Value) -> Value:
        return a if _known(b) == 1 else self.once(super().udiv, a, b)

    def urem(self, a: Value, b: Value) -> Value:
        return a.type(0) if _known(b) == 1 else self.once(super().urem, a, b)

    def inttoptr(self, value: Value, type: ir.Type) -> Value:
        return self.once(super().inttoptr, value, type)

    def gep(self, pointer: Value, indices: Sequence[Value], source_etype: ir.Type) -> Value:
        def gep(pointer: Value, source_etype: ir.Type, *indices: Value) -> Value:
            return super(Builder, self).gep(pointer, indices, source_etype=source_etype)

        return pointer if all(_known(k) == 0 for k in indices) else self.once(gep, pointer, source_etype, *indices)


def _known(value: Value) -> int | None:
    """The number that a scalar integer is, if it is a constant."""
    number = value.constant if isinstance(value, ir.Constant) and isinstance(value.type, ir.IntType) else None
    return number if isinstance(number, int) else None


class _Literal(ir.Constant):
    """A constant given by its text: llvmlite itself would spell a splat lane by lane."""

    def __init__(self, type: ir.Type, text: str):
        self.type, self.constant = type, text

    def _get_reference(self) -> str:
        return str(self.constant)


class Lanes:
    """The primitives of one kernel function: real numbers of `bits` bits in `width` lanes.

    Parameters
    ----------
    builder : Builder
        Where instructions go.
    bits : int
        32 or 64: the floating-point type of the lanes.
    width : int
        Lanes a value holds; 1 means plain scalars.
    features : frozenset of str
        What the target can do beyond the common set, e.g. ``"avx512dq"``.
    """

    # A product feeding a sum may become one fma. Nothing may be reassociated: that would undo range reductions.
    FLAGS = ("contract",)

    def __init__(self, builder: Builder, bits: int, width: int, features: frozenset[str] = frozenset()):
        self.builder, self.bits, self.width, self.features = builder, bits, width, features
        self.scalar: ir.Type = ir.FloatType() if bits == 32 else ir.DoubleType()
        self.scalar_integer: ir.Type = ir.IntType(bits)
        self.real = self.lanes(self.scalar)
        self.integer = self.lanes(self.scalar_integer)
        self.boolean = self.lanes(I1)
        self._conditions: dict[Value, Value] = {}  # what each `one_if` was made from

    def lanes(self, scalar: ir.Type) -> ir.Type:
        """The type that holds `width` of `scalar`."""
        return scalar if self.width == 1 else ir.VectorType(scalar, self.width)

    def of(self, kind: str) -> ir.Type:
        """The type that holds a kind of numbers."""
        return {"real": self.real, "double": self.lanes(ir.DoubleType()), "index": self.integer}[kind]

    def intrinsic(self, name: str, result: ir.Type, arguments: Sequence[Value]) -> Value:
        """Call the LLVM intrinsic `name`, declared on first use; overloaded names carry their type suffix."""
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [a.type for a in arguments]), name)
        return self.builder.call(function, arguments)

    def outlined(
        self, name: str, kinds: Sequence[ir.Type], emit: Callable[..., Sequence[Value]], arguments: Sequence[Value]
    ) -> list[Value]:
        """What ``emit(m, *arguments)`` gives, from a function of its own: for long code that rarely runs.

        `kinds` are the types of its results. The function is emitted once for each kind of lanes.
        """
        module, name = self.builder.module, f"{name}.{self.suffix()}"
        function = module.globals.get(name)
        if function is None:
            kind = ir.LiteralStructType(kinds)
            function = ir.Function(module, ir.FunctionType(kind, [a.type for a in arguments]), name)
            function.linkage = "internal"
            builder = Builder(function.append_basic_block("entry"))
            results: Value = ir.Constant(kind, ir.Undefined)
            lanes = self.of_function(builder)
            for k, value in enumerate(emit(lanes, *function.args)):
                results = builder.insert_value(results, value, k)
            builder.ret(results)
        called = self.builder.call(function, arguments)
        return [self.builder.extract_value(called, k) for k in range(len(kinds))]

    def of_function(self, builder: Builder) -> Any:
        """The same lanes in a function of its own, which some of a GPU's threads may call alone."""
        return type(self)(builder, self.bits, self.width, self.features)

    def suffix(self, scalar: ir.Type | None = None) -> str:
        """The overload suffix of an intrinsic on these lanes: ``f32``, ``v16f32`` …"""
        scalar = scalar or self.scalar
        name = {"float": "f32", "double": "f64"}.get(str(scalar), str(scalar))
        return name if self.width == 1 else f"v{self.width}{name}"

    def _math(self, name: str, *arguments: Value) -> Value:
        return self.intrinsic(f"llvm.{name}.{self.suffix()}", self.real, arguments)

    # ---- constants and movement
    def const(self, number: float) -> Value:
        """`number`, rounded to the lanes' type, in every lane."""
        return self._splat_constant(self.real, self.scalar, _hexadecimal(number, self.bits))

    def iconst(self, number: int) -> Value:
        """The integer `number` (two's complement in the lanes' width) in every lane."""
        number &= (1 << self.bits) - 1
        if number >> (self.bits - 1):
            number -= 1 << self.bits
        return self._splat_constant(self.integer, self.scalar_integer, str(number))

    def true(self) -> Value:
        return self._splat_constant(self.boolean, I1, "true")

    def _splat_constant(self, lanes: ir.Type, scalar: ir.Type, text: str) -> Value:
        return _Literal(lanes, text if self.width == 1 else f"splat ({scalar} {text})")

    def lane(self, value: Value, k: int) -> Value:
        """The number in a lane."""
        return value if self.width == 1 else self.builder.extract_element(value, I32(k))

    def with_lane(self, value: Value, scalar: Value, k: int) -> Value:
        """The same lanes with another number in one of them."""
        return scalar if self.width == 1 else self.builder.insert_element(value, scalar, I32(k))

    def lane_numbers(self, type: ir.IntType, first: int = 0) -> Value:
        """The lanes' numbers, from `first` on."""
        return type(first) if self.width == 1 else ir.Constant(self.lanes(type), [first + k for k in range(self.width)])

    def below(self, count: Value, first: int = 0) -> Value:
        """Which lanes, numbered from `first` on, have a number below a 32-bit integer."""
        return self.builder.icmp_signed("<", self.lane_numbers(I32, first), self.splat(count))

    def splat(self, scalar: Value) -> Value:
        """A scalar value of any type, copied to every lane."""
        if self.width == 1:
            return scalar

        def splat(lanes: ir.Type, scalar: Value) -> Value:
            first = self.builder.insert_element(ir.Constant(lanes, ir.Undefined), scalar, I32(0))
            zeros = ir.Constant(ir.VectorType(I32, self.width), None)
            return self.builder.shuffle_vector(first, ir.Constant(lanes, ir.Undefined), zeros)

        return self.builder.once(splat, self.lanes(scalar.type), scalar)

    # ---- real arithmetic
    def add(self, a: Value, b: Value) -> Value:
        return self.builder.fadd(a, b, flags=self.FLAGS)

    def sub(self, a: Value, b: Value) -> Value:
        return self.builder.fsub(a, b, flags=self.FLAGS)

    def mul(self, a: Value, b: Value) -> Value:
        return self.builder.fmul(a, b, flags=self.FLAGS)

    def div(self, a: Value, b: Value) -> Value:
        return self.builder.fdiv(a, b)

    def neg(self, a: Value) -> Value:
        return self.builder.fneg(a)

    def whole(self, like: Value, number: int) -> Value:
        """The integer `number` in lanes of the type of `like`."""
        scalar = like.type.element if self.width > 1 else like.type
        return self.splat(scalar(number))

    def widen(self, a: Value) -> Value:
        """As float64."""
        return a if self.bits == 64 else self.builder.fpext(a, self.of("double"))

    def narrow(self, a: Value) -> Value:
        """float64 as the lanes' own type."""
        return a if self.bits == 64 else self.builder.fptrunc(a, self.real)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a·b + c, rounded once."""
        return self._math("fma", a, b, c)

    def sqrt(self, a: Value) -> Value:
        return self._math("sqrt", a)

    def abs(self, a: Value) -> Value:
        return self._math("fabs", a)

    def copysign(self, a: Value, sign: Value) -> Value:
        return self._math("copysign", a, sign)

    def floor(self, a: Value) -> Value:
        return self._math("floor", a)

    def ceil(self, a: Value) -> Value:
        return self._math("ceil", a)

    def trunc(self, a: Value) -> Value:
        return self._math("trunc", a)

    def nearest(self, a: Value) -> Value:
        """The nearest integer, ties to even, as NumPy's rint."""
        return self._math("rint", a)

    def fmin(self, a: Value, b: Value) -> Value:
        """The smaller; b where either is nan. One instruction, as x86 defines it."""
        return self.select(self.lt(a, b), a, b)

    def fmax(self, a: Value, b: Value) -> Value:
        """The larger; b where either is nan."""
        return self.select(self.gt(a, b), a, b)

    def minimum(self, a: Value, b: Value) -> Value:
        """The smaller, nan where either is, as NumPy's minimum."""
        return self.select(self.isnan(a), a, self.fmin(a, b))

    def maximum(self, a: Value, b: Value) -> Value:
        return self.select(self.isnan(a), a, self.fmax(a, b))

    # ---- comparisons: false where an operand is nan, but `ne`
    def lt(self, a: Value, b: Value) -> Value:
        return self.builder.fcmp_ordered("<", a, b)

    def le(self, a: Value, b: Value) -> Value:
        return self.builder.fcmp_ordered("<=", a, b)

    def gt(self, a: Value, b: Value) -> Value:
        return self.builder.fcmp_ordered(">", a, b)

    def ge(self, a: Value, b: Value) -> Value:
        return self.builder.fcmp_ordered(">=", a, b)

    def eq(self, a: Value, b: Value) -> Value:
        return self.builder.fcmp_ordered("==", a, b)

    def ne(self, a: Value, b: Value) -> Value:
        return self.builder.fcmp_unordered("!=", a, b)

    def isnan(self, a: Value) -> Value:
        return self.builder.fcmp_unordered("uno", a, a)

    def land(self, a: Value, b: Value) -> Value:
        return self.builder.and_(a, b)

    def lor(self, a: Value, b: Value) -> Value:
        return self.builder.or_(a, b)

    def lnot(self, a: Value) -> Value:
        return self.builder.xor(a, self.true())

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """a where the boolean lanes are true, else b."""
        return self.builder.select(condition, a, b)

    def truth(self, a: Value) -> Value:
        """The boolean lanes of a real condition: true where not 0 (nan is true, as in NumPy)."""
        return self._conditions.get(a) or self.ne(a, self.const(0.0))

    def one_if(self, condition: Value) -> Value:
        """1.0 where the boolean lanes are true, else 0.0."""
        number = self.select(condition, self.const(1.0), self.const(0.0))
        self._conditions[number] = condition
        return number

    def one_if_nan(self, a: Value) -> Value:
        return self.one_if(self.isnan(a))

    def is_negative(self, a: Value) -> Value:
        """Of an integer of any width."""
        return self.builder.icmp_signed("<", a, a.type(None))

    def any(self, condition: Value) -> Value:
        """One i1: whether some lane is true."""
        if self.width == 1:
            return condition
        return self.intrinsic(f"llvm.vector.reduce.or.v{self.width}i1", I1, [condition])

    # ---- integer arithmetic on the lanes' bits
    def as_integer(self, a: Value) -> Value:
        """The same bits, seen as an integer."""
        return self.builder.bitcast(a, self.integer)

    def as_real(self, a: Value) -> Value:
        return self.builder.bitcast(a, self.real)

    def iadd(self, a: Value, b: Value) -> Value:
        return self.builder.add(a, b)

    def isub(self, a: Value, b: Value) -> Value:
        return self.builder.sub(a, b)

    def iand(self, a: Value, b: Value) -> Value:
        return self.builder.and_(a, b)

    def ixor(self, a: Value, b: Value) -> Value:
        return self.builder.xor(a, b)

    def shift_left(self, a: Value, count: int) -> Value:
        return self.builder.shl(a, self.iconst(count))

    def shift_right(self, a: Value, count: int) -> Value:
        """Arithmetic: the sign fills in."""
        return self.builder.ashr(a, self.iconst(count))


def loop(
    builder: Builder,
    start: Value,
    stop: Value,
    step: int,
    carried: Sequence[Value],
    body: Callable[[Value, list[Value]], Sequence[Value]],
) -> list[Value]:
    """Emit ``for k in range(start, stop, step)`` with ``carried = body(k, carried)``; a negative step counts down.

    Returns the carried values after the loop. `start` and `stop` are 64-bit integers.
    """
    before = builder.block
    head = builder.append_basic_block("loop")
    inside = builder.append_basic_block("body")
    after = builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(I64)
    k.add_incoming(start, before)
    phis = []
    for value in carried:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        phis.append(phi)
    builder.cbranch(builder.icmp_signed("<" if step > 0 else ">", k, stop), inside, after)
    builder.position_at_end(inside)
    results = body(k, phis)
    k.add_incoming(builder.add(k, I64(step), flags=("nsw",)), builder.block)
    for phi, result in zip(phis, results, strict=True):
        phi.add_incoming(result, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return phis


def _hexadecimal(number: float, bits: int) -> str:
    """LLVM's spelling of a floating-point constant: the bits of the double that equals the rounded number."""
    number = float(number)
    if bits == 32:
        try:
            number = struct.unpack("f", struct.pack("f", number))[0]
        except OverflowError:
            number = float("inf") if number > 0 else float("-inf")
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
