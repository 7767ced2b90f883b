"""One kernel function while it is being emitted: its lanes, its arguments, and the address arithmetic all phases share."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from .builder import I8, I32, I64, POINTER, Builder, Value, loop
from .evaluate import Index
from .mathlib import Maths

VOID = ir.VoidType()
OF_PHASES = ir.FunctionType(VOID, [POINTER, POINTER, I64])  # (words, control, number of a task or of tasks)
LARGEST_ON_STACK = 1 << 16  # bytes


class Frame:
    """The function ``name(words, control, task)`` of a module, open for instructions.

    Parameters
    ----------
    module : llvmlite.ir.Module
    name : str
    bits, width, features
        The lanes, as for `Lanes`.
    """

    def __init__(self, module: ir.Module, name: str, bits: int, width: int, features: frozenset[str]):
        self.function = ir.Function(module, OF_PHASES, name)
        self.entry = self.function.append_basic_block("entry")
        self.builder = Builder(self.function.append_basic_block("start"))
        self.m = Maths(self.builder, bits, width, features)
        self.words, self.control, self.task = self.function.args
        self._words: dict[int, Value] = {}
        self._spare: dict[ir.Type, Value] = {}
        self._setup = Builder(self.entry)
        self._on_heap: list[Value] = []

    def finish(self) -> None:
        """Close the function."""
        for block in self._on_heap:
            self.builder.call(self._library("free", VOID, [POINTER]), [block])
        self.builder.ret_void()
        self._setup.position_at_end(self.entry)  # others may have allocated there too
        self._setup.branch(self.function.blocks[1])

    # ---- arguments
    def word(self, position: int) -> Value:
        """An argument word, loaded once at the function's start."""
        if position not in self._words:
            place = self._setup.gep(self.words, [I64(position)], source_etype=I64)
            self._words[position] = self._setup.load(place, typ=I64)
        return self._words[position]

    def address(self, position: int) -> Value:
        """An argument word as a pointer."""
        return self.builder.inttoptr(self.word(position), POINTER)

    def allocate(self, type: ir.Type, count: int, align: int) -> Value:
        """`count` values that live as long as the function runs: on the stack or, where they are many, on the heap."""
        bytes = count * bytes_of(type)
        if bytes <= LARGEST_ON_STACK or self.m.width == 1:  # a GPU's thread has no heap
            place = self._setup.alloca(type, count)
            place.align = align
            return place
        block = self._setup.call(self._library("malloc", POINTER, [I64]), [I64(bytes + align)])
        self._on_heap.append(block)
        number = self._setup.add(self._setup.ptrtoint(block, I64), I64(align - 1))
        return self._setup.inttoptr(self._setup.and_(number, I64(-align)), POINTER)

    def _library(self, name: str, result: ir.Type, operands: Sequence[ir.Type]) -> ir.Function:
        """A function of the C library."""
        module = self.function.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, operands), name)

    # ---- addresses and integers
    def offset(self, pointer: Value, bytes: Value) -> Value:
        return self.builder.gep(pointer, [bytes], source_etype=I8)

    def element(self, pointer: Value, index: Value, bytes: int) -> Value:
        """The address of an element of an array of elements of `bytes` bytes."""
        return self.builder.gep(pointer, [index], source_etype=ir.IntType(8 * bytes))

    def components(self, starts: Sequence[Value], index: Index, stride: Value) -> list[Value]:
        """Where a component is of the vectors that start there; from one component to the next it is `stride` bytes."""
        along = self.builder.mul(index.value(self.builder), stride)
        return [self.offset(start, along) for start in starts]

    def generic(self, pointer: Value) -> Value:
        """A pointer into whichever memory."""
        return pointer if pointer.type == POINTER else self.builder.addrspacecast(pointer, POINTER)

    def smaller(self, a: Value, b: Value) -> Value:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def larger(self, a: Value, b: Value) -> Value:
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    def divide(self, a: Value, b: int) -> tuple[Value, Value]:
        """Quotient and remainder of a non-negative integer."""
        return self.builder.udiv(a, I64(b)), self.builder.urem(a, I64(b))

    def ceil_div(self, a: Value, b: Value) -> Value:
        """The quotient of a non-negative integer, rounded up."""
        return self.builder.udiv(self.builder.add(a, self.builder.sub(b, I64(1))), b)

    def padded(self, count: Value, multiple: int) -> Value:
        """The count rounded up to a multiple."""
        return self.builder.mul(self.ceil_div(count, I64(multiple)), I64(multiple))

    # ---- lanes and memory
    def scatter(self, value: Value, base: Value, first: Value, step: int, count: Value) -> None:
        """The first `count` lanes to the elements ``first``, ``first + step`` … of an array."""
        b = self.builder
        scalar = value.type.element if self.m.width > 1 else value.type
        if isinstance(count, ir.Constant):
            for k in range(count.constant):
                b.store(self.m.lane(value, k), b.gep(base, [b.add(first, I64(k * step))], source_etype=scalar))
            return
        if step == 1 and "avx" in self.m.features and scalar in (ir.FloatType(), ir.DoubleType()):
            filled = self.m.below(b.trunc(count, I32))
            place = b.gep(base, [first], source_etype=scalar)
            name = f"llvm.masked.store.{self.m.suffix(scalar)}.p0"
            self.m.intrinsic(name, VOID, [value, place, I32(bytes_of(scalar)), filled])
            return
        if value.type not in self._spare:
            self._spare[value.type] = self.allocate(value.type, 1, 64)
        spare = self._spare[value.type]
        b.store(value, spare, align=4)

        def store(k: Value, _: Sequence[Value]) -> Sequence[Value]:
            lane = b.load(b.gep(spare, [k], source_etype=scalar), typ=scalar)
            b.store(lane, b.gep(base, [b.add(first, b.mul(k, I64(step)))], source_etype=scalar))
            return ()

        loop(b, I64(0), count, 1, (), store)

    def aborted(self, position: int) -> Value:
        """Whether the call was told to stop, read afresh each time."""
        b = self.builder
        flag = b.load_atomic(self.element(self.control, I64(position), 8), "monotonic", 8, typ=I64)
        return b.icmp_unsigned("!=", flag, I64(0))


def bytes_of(type: ir.Type) -> int:
    """The size of a number, or of lanes."""
    if isinstance(type, ir.VectorType):
        return type.count * bytes_of(type.element)
    return {ir.FloatType(): 4, ir.DoubleType(): 8}.get(type) or -(-type.width // 8)
