"""PyTorch tensors, and their derivatives: a fold is one differentiable function, and so are the folds of its derivative."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
import torch

from ..fold import AXIS_OF, Fold
from ..runtime import accurate
from ..runtime.operand import Extent, Operand, batch_offsets
from ..runtime.pattern import Pattern
from .base import FLOATS, STORED, Backend, Product, Solve

if TYPE_CHECKING:
    from ..runtime.cuda import Queue

DTYPES = {name: getattr(torch, name) for name in STORED if hasattr(torch, name)}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
CALLS_KEPT = 64  # of each fold
PLAIN = (torch.Tensor, torch.nn.Parameter)
QUEUES_KEPT = 256


_name = lru_cache(maxsize=64)(str)  # of a device


@lru_cache(maxsize=64)
def _is_served(device: Any) -> bool:
    """Whether formulas can be computed there."""
    return device.type == "cpu" or device.type == "cuda" and torch.version.cuda is not None


def _outside_of_transforms() -> AbstractContextManager[Any]:
    """Where tensors are made as if no function of `torch.func` ran."""
    if not torch._C._are_functorch_transforms_active():
        return nullcontext()
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    return temporarily_clear_interpreter_stack()


class TorchBackend(Backend):
    """PyTorch: results take part in autograd, to any order."""

    name = "torch"
    convert = "x.float()"
    module = torch
    correction = 1

    def owns(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor)

    def dtype(self, array: Any) -> str:
        return NAMES.get(array.dtype) or str(array.dtype).removeprefix("torch.")

    def device(self, array: Any) -> str:
        return _name(array.device)

    def unreadable(self, array: Any) -> str | None:
        if array.is_nested:
            return "is nested: pass its parts one by one"
        if array.layout is not torch.strided:
            return f"has the layout {array.layout}: make it dense first, e.g. x.to_dense()"
        if not _is_served(array.device):
            return f"is on device {array.device}, but formulas are computed on CPUs and NVIDIA GPUs: move it first, e.g. x.cpu()"
        return None

    def promote(self, a: str, b: str) -> str:
        return NAMES[torch.promote_types(DTYPES[a], DTYPES[b])]

    def real(self, dtype: str) -> str:
        return dtype if dtype in FLOATS else NAMES[torch.get_default_dtype()]

    def largest(self, array: Any) -> int:
        if array.dtype in (torch.uint32, torch.uint64):  # of which PyTorch finds no maximum
            return int(array.detach().cpu().numpy().max())
        return max(int(array.max()), -int(array.min()))

    def scalar(self, value: float, dtype: str, like: Any) -> Any:
        return torch.full((1,), value, dtype=DTYPES[dtype], device=like.device)

    def cast(self, array: Any, dtype: str) -> Any:
        return array.to(getattr(torch, dtype))

    def complex(self, real: Any, imag: Any) -> Any:
        return torch.complex(real, imag)

    def indices(self, value: Any, like: Any) -> Any:
        if isinstance(value, np.ndarray):
            with _outside_of_transforms():  # whose tensors end with them, while masks and solvers may keep these
                return torch.as_tensor(value.astype(np.int64, copy=False), device=like.device)
        return torch.as_tensor(value, device=like.device).long()

    def from_numpy(self, array: np.ndarray, like: Any) -> Any:
        return torch.as_tensor(np.require(array, requirements=["C", "W"]), device=like.device)

    def to_numpy(self, array: Any) -> np.ndarray:
        if not torch._C._are_functorch_transforms_active():
            return array.numpy(force=True)
        while torch._C._functorch.is_gradtrackingtensor(array):
            array = torch._C._functorch.get_unwrapped(array)
        if torch._C._functorch.is_batchedtensor(array):
            raise RuntimeError("torch.func.vmap cannot run over what a mask or an index is made of: it is not the same for all")
        with _outside_of_transforms():  # within torch.func.grad whatever is done makes a tensor without numbers
            return self.to_numpy(array)

    def order(self, keys: Any) -> Any:
        return keys.argsort(stable=True)

    def sum_by(self, values: Any, labels: Any, count: int) -> Any:
        return values.new_zeros(count, values.shape[1]).index_add(0, labels.long(), values)

    def free_bytes(self, like: Any) -> int | None:
        if not like.is_cuda:
            return super().free_bytes(like)
        kept = torch.cuda.memory_reserved(like.device) - torch.cuda.memory_allocated(like.device)  # by PyTorch, for tensors to come
        return torch.cuda.mem_get_info(like.device)[0] + kept

    def take_along(self, array: Any, index: Any) -> Any:
        return array.gather(-1, index)

    def operand(self, array: Any, rows: bool, batch: tuple[int, ...]) -> Operand:
        bytes = array.element_size()
        shape, strides = array.shape, array.stride()
        own = -2 if rows else -1
        offsets = batch_offsets(batch, shape[:own], [s * bytes for s in strides[:own]])
        return Operand(array.data_ptr(), strides[-2] * bytes if rows else 0, strides[-1] * bytes, offsets, NAMES[array.dtype])

    def beside(self, like: Any) -> Any:
        return torch.device(like.device) if like.is_cuda else super().beside(like)

    def detach(self, array: Any) -> Any:
        return array.detach()

    def solution(self, solve: Solve, product: Product, b: Any, arrays: Sequence[Any]) -> Any:
        return _Solution.apply(solve, product, b, *arrays)

    def differentiable(self, arrays: Sequence[Any]) -> bool:
        if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
            return True
        return torch.is_grad_enabled() and True in [a.requires_grad for a in arrays]

    def followed(self, array: Any) -> bool:
        return array.requires_grad or self.differentiable((array,))

    def results(self, fold: Fold, arrays: Sequence[Any], extent: Extent, dtype: str, pattern: Pattern | None = None) -> tuple[Any, ...]:
        if self.differentiable(arrays):
            if fold.reduction.selects and extent.reduced:
                return self._selected(fold, arrays, extent, dtype, pattern)
            return tuple(_function().apply(self, fold, extent, dtype, pattern, *arrays))
        return self.compute(fold, arrays, extent, dtype, pattern)

    def _selected(self, fold: Fold, arrays: Sequence[Any], extent: Extent, dtype: str, pattern: Pattern | None) -> tuple[Any, ...]:
        """Minima and their kin, differentiable: find the pairs, then compute the formula at those pairs alone."""
        to_indices, at_pairs = fold.selection
        transformed = torch._C._are_functorch_transforms_active()  # those of torch.func, which see through functions alone
        (index,) = (_function().apply if transformed else _Fold.forward)(self, to_indices, extent, dtype, pattern, *arrays)
        if all(r.kind == "index" for r in fold.results):
            return tuple(index for _ in fold.results)
        a_row, nothing = index.shape[-1], index < 0
        rows = torch.arange(extent.kept, device=index.device).repeat_interleave(a_row)
        columns = index.clamp(min=0).reshape(*extent.batch, -1, 1)

        def at(array: Any, axis: str) -> Any:
            if axis == AXIS_OF[1 - fold.axis]:
                return array[..., rows, :]
            own = array.expand(*extent.batch, *array.shape[-2:])
            return own.gather(-2, columns.expand(*columns.shape[:-1], array.shape[-1]))

        operands = [at(a, v.attrs[0]) if v.axes else a for a, v in zip(arrays, fold.variables, strict=True)]
        (values,) = self.results(at_pairs, operands, Extent(extent.batch, extent.kept * a_row, 1), dtype)
        # Each component was selected for itself.
        component = torch.arange(a_row, device=index.device).remainder(at_pairs.dims[0]).repeat(extent.kept)
        values = values.gather(-1, component[:, None].expand(*values.shape[:-1], 1)).reshape(index.shape)
        if pattern is not None:  # rows that meet too few columns have places to which no pair belongs
            missing = next(v for r, v in zip(fold.results, fold.of_nothing(), strict=True) if r.kind == "real")
            values = torch.where(nothing, torch.tensor(missing, dtype=values.dtype, device=values.device), values)
        return tuple(index if r.kind == "index" else values for r in fold.results)

    def compute(self, fold: Fold, arrays: Sequence[Any], extent: Extent, dtype: str, pattern: Pattern | None = None) -> tuple[Any, ...]:
        """The results themselves."""
        # On a GPU, where arrays such as these were met before, without another look at them.
        alike: tuple[Any, ...] = ()
        if arrays and arrays[0].is_cuda and not _in_other_hands(arrays):
            device = arrays[0].device
            # A pattern's tables are kept for as long as it is, and told which streams read them.
            blocks = pattern and (ref(pattern), torch._C._cuda_getCurrentRawStream(device.index))
            alike = (
                extent,
                dtype,
                device,
                accurate.fast_math,
                blocks,
                *[(type(a), a.dtype, a.shape, a.stride(), a.is_neg() or a._is_zerotensor()) for a in arrays],
            )
            found = fold.calls.get(alike)
            if found is not None:
                call, made = found
                queue = _queue(device)
                assert queue is not None
                again: list[Any] = []

                def allocated() -> list[int]:
                    again.extend([arrays[0].new_empty(shape, dtype=kind) for shape, kind in made])
                    return [o.data_ptr() for o in again]

                call([a.data_ptr() for a in arrays], allocated, queue)
                return tuple(again)
        shape, device = (*extent.batch, extent.kept), arrays[0].device if arrays else None
        outputs = [
            torch.empty((*shape, r.dim), dtype=torch.int64 if r.kind == "index" else DTYPES[dtype], device=device) for r in fold.results
        ]
        if any(torch._C._functorch.is_legacy_batchedtensor(a) for a in arrays):
            raise RuntimeError("batched gradients by is_grads_batched=True or vectorize=True are not supported: use torch.func.vmap")
        _refuse_tracers(arrays)
        if extent.pairs:
            plain = not any(a.is_neg() or a._is_zerotensor() for a in arrays)
            arrays = [_in_memory(a) for a in arrays]  # kept until the kernel is done
            bits, queue = self.bits(arrays, dtype), _queue(outputs[0].device)
            operands = [self.operand(a, bool(v.axes), extent.batch) for a, v in zip(arrays, fold.variables, strict=True)]
            fold.run(operands, [o.data_ptr() for o in outputs], extent, bits, dtype, queue, pattern)
            # Of integers the numbers themselves decide how many bits are computed with.
            if alike and queue and plain and all(type(a) in PLAIN and a.is_floating_point() for a in arrays):
                one = fold.call_on_gpu(operands, extent, bits, dtype, queue, pattern)
                if one is not None:
                    fold.calls[alike] = one, [(tuple(o.shape), o.dtype) for o in outputs]
                if len(fold.calls) > CALLS_KEPT:
                    fold.calls.pop(next(iter(fold.calls)), None)
            del arrays  # named here, so that nobody who rewrites this frame (torch.compile does) frees them any earlier
        empty: Any = None if extent.reduced else slice(None)
        if pattern is not None and extent.reduced and not outputs[0].is_cuda and pattern.empty.any():  # kernels on a GPU see to it
            empty = pattern.empty
        if empty is not None:
            for output, value in zip(outputs, fold.of_nothing(), strict=True):
                output[..., empty, :] = torch.tensor(value, dtype=output.dtype, device=output.device)
        return tuple(outputs)


def _in_memory(array: Any) -> Any:
    """A tensor whose numbers lie in memory as they are: PyTorch's own derivatives make some of zeros without any, and some whose signs
    are turned when they are read.
    """
    return torch.zeros_like(array, memory_format=torch.contiguous_format) if array._is_zerotensor() else array.resolve_neg()


def _in_other_hands(arrays: Sequence[Any]) -> bool:
    """Whether something may be at work that records tensors or puts others in their place."""
    return (
        torch._C._is_tracing() or torch._C._len_torch_dispatch_stack() or True in map(torch._C._functorch.is_legacy_batchedtensor, arrays)
    )


def _refuse_tracers(arrays: Sequence[Any]) -> None:
    """Refuse what stands for tensors to come: kernels read numbers, and leave nothing behind that a recorded program could repeat."""
    found = ""
    if torch.jit.is_tracing():
        found = "torch.jit.trace"
    elif any(torch._is_functional_tensor(a) or type(a).__name__ in ("FakeTensor", "FunctionalTensor") for a in arrays):
        found = "a tensor without numbers (torch.export, fake tensors)"
    elif torch._C._len_torch_dispatch_stack() and (proxies := sys.modules.get("torch.fx.experimental.proxy_tensor")):
        found = "make_fx" if proxies.get_proxy_mode() is not None else ""
    if found:
        raise RuntimeError(
            f"{found} cannot record a fold over pairs: trace the parts around it, or use torch.compile, which runs it as it is"
        )


def _queue(device: Any) -> Queue | None:
    """PyTorch's current stream and its caching allocator; None on the CPU."""
    if device.type != "cuda":
        return None
    stream = torch._C._cuda_getCurrentRawStream(device.index)
    found = _queues.get((device, stream))
    if found is None:
        if len(_queues) > QUEUES_KEPT:
            _queues.clear()
        found = _queues[device, stream] = _make_queue(device, stream)
    return found


_queues: dict[tuple[Any, int], Queue] = {}


def _make_queue(device: Any, stream: int) -> Queue:
    from ..runtime.cuda import Queue  # here, since most programs do without

    def allocate(bytes: int) -> tuple[Any, int]:
        if torch._C._cuda_getDevice() == device.index:
            block = _Block(bytes, stream)
            return block, block.address
        scratch = torch.empty(bytes, dtype=torch.uint8, device=device)
        return scratch, scratch.data_ptr()

    def upload(array: np.ndarray) -> tuple[Any, int]:
        copy = torch.from_numpy(array).to(device)
        return copy, copy.data_ptr()

    def record(keep: Any) -> None:
        keep.record_stream(torch.cuda.current_stream(device))

    return Queue(device.index, stream, allocate, upload, record)


class _Block:
    """Memory of PyTorch's caching allocator on the current device, given back when nobody knows it: sooner made than a tensor."""

    __slots__ = ("address",)

    def __init__(self, bytes: int, stream: int):
        self.address = torch._C._cuda_cudaCachingAllocator_raw_alloc(bytes, stream)

    def __del__(self) -> None:
        torch._C._cuda_cudaCachingAllocator_raw_delete(self.address)


class _Fold(torch.autograd.Function):
    """A fold as autograd sees it."""

    @staticmethod
    def forward(backend: TorchBackend, fold: Fold, extent: Extent, dtype: str, pattern: Pattern | None, *arrays: Any) -> tuple[Any, ...]:
        return backend.compute(fold, arrays, extent, dtype, pattern)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        # What is not needed is not kept, so that it may be changed in place.
        _Fold.keep(ctx, inputs, output if inputs[1].reduction.pulls_by_results else ())

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], kept: tuple[Any, ...]) -> None:
        """What derivatives need."""
        ctx.backend, ctx.fold, ctx.extent, ctx.dtype, ctx.pattern, *arrays = inputs
        kinds = [r.kind for r in ctx.fold.results]
        ctx.mark_non_differentiable(*(o for o, kind in zip(kept, kinds, strict=False) if kind == "index"))
        ctx.save_for_backward(*arrays, *(o for o, kind in zip(kept, kinds, strict=False) if kind == "real"))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], backend: TorchBackend, fold: Fold, extent: Extent, *rest: Any) -> Any:
        """One batch axis more, in front."""
        dtype, pattern, *arrays = rest

        def front(array: Any, dim: int | None, rows: bool) -> Any:
            if dim is None:
                return array
            array = array.movedim(dim, 0)
            missing = len(extent.batch) - (array.ndim - (3 if rows else 2))
            return array.reshape(array.shape[0], *[1] * missing, *array.shape[1:])

        moved = [front(a, d, bool(v.axes)) for a, d, v in zip(arrays, in_dims[5:], fold.variables, strict=True)]
        results = _function().apply(backend, fold, extent._replace(batch=(info.batch_size, *extent.batch)), dtype, pattern, *moved)
        return results, (0,) * len(fold.results)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        wanted = tuple(k for k in range(len(ctx.fold.variables)) if ctx.needs_input_grad[5 + k])
        return (None, None, None, None, None, *_Fold.pulled_back(ctx, ctx.saved_tensors, cotangents, wanted))

    @staticmethod
    def pulled_back(ctx: Any, saved: Sequence[Any], cotangents: Sequence[Any], wanted: tuple[int, ...]) -> list[Any]:
        """The gradients by the wanted arrays, and None for the others."""
        fold: Fold = ctx.fold
        real = [g for g, r in zip(cotangents, fold.results, strict=True) if r.kind == "real"]
        arrays, outs = saved[: len(fold.variables)], saved[len(fold.variables) :]
        operands = [*arrays, *(outs or [None] * len(real)), *real]
        # Where nothing was reduced nothing depends on the operands.
        pullbacks = fold.backward(wanted) if ctx.extent.reduced else []
        gradients: list[Any] = [torch.zeros_like(a) if k in wanted else None for k, a in enumerate(arrays)]
        for pullback in pullbacks:
            extent, pattern = ctx.extent, ctx.pattern
            if pullback.fold.axis != fold.axis:
                extent, pattern = extent.flipped(), pattern and pattern.T
            (found,) = ctx.backend.results(pullback.fold, [operands[k] for k in pullback.inputs], extent, ctx.dtype, pattern)
            for k, start, stop in pullback.targets:
                part = found[..., start:stop]
                # What was broadcast collects its gradient from everywhere: a parameter from all rows, any array from all batches.
                gradients[k] = (part if fold.variables[k].axes else part.sum(-2)).sum_to_size(arrays[k].shape)
        return gradients


class _Tangents(_Fold):
    """A fold where there are tangents to take along; apart, since torch.compile does not know functions that do."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        _Fold.keep(ctx, inputs, output)
        ctx.save_for_forward(*ctx.to_save)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Any, ...]:
        """The transpose of the gradients, which are linear in the cotangents."""
        wanted = tuple(k for k, t in enumerate(tangents[5:]) if t is not None)
        saved = _primals(ctx.saved_tensors)
        outs = saved[len(ctx.fold.variables) :]
        places = [k for k, r in enumerate(ctx.fold.results) if r.kind == "real"]
        if not places:
            return (None,) * len(ctx.fold.results)

        def gradients(*cotangents: Any) -> tuple[Any, ...]:
            given: list[Any] = [None] * len(ctx.fold.results)
            for k, cotangent in zip(places, cotangents, strict=True):
                given[k] = cotangent
            found = _Fold.pulled_back(ctx, saved, given, wanted)
            return tuple(found[k] for k in wanted)

        _, transpose = torch.func.vjp(gradients, *(torch.zeros_like(o) for o in outs))
        pushed = dict(zip(places, transpose(tuple(tangents[5 + k] for k in wanted)), strict=True))
        return tuple(pushed.get(k) for k in range(len(ctx.fold.results)))


def _primals(tensors: Sequence[Any]) -> list[Any]:
    """Without their own tangents, which would be taken along forever."""
    stack = torch._C._functorch.get_interpreter_stack() or ()
    if sum(level.key() == torch._C._functorch.TransformType.Jvp for level in stack) > 1:
        # PyTorch takes no tangents along while it computes those of a function that is not its own: they would be 0.
        raise RuntimeError("forward mode within forward mode does not see through a fold over pairs: use jacfwd(jacrev(f)), or hessian")
    return [torch.autograd.forward_ad.unpack_dual(t).primal for t in tensors]


def _function() -> type[_Fold]:
    return _Tangents if torch.autograd.forward_ad._current_level >= 0 else _Fold


class _Solution(torch.autograd.Function):
    """x with A x = b, by a solver that autograd does not look into: A dx = db - dA x."""

    @staticmethod
    def forward(solve: Solve, product: Product, b: Any, *arrays: Any) -> Any:
        return solve(product([a.detach() for a in arrays]), b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.solve, ctx.product, _, *arrays = inputs
        ctx.save_for_backward(output, *arrays)
        ctx.save_for_forward(output, *arrays)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], solve: Solve, product: Product, *arrays: Any) -> Any:
        """One after another: each is a system of its own."""

        def of(k: int) -> list[Any]:
            return [a if dim is None else a.select(dim, k) for a, dim in zip(arrays, in_dims[2:], strict=True)]

        return torch.stack([_Solution.apply(solve, product, *of(k)) for k in range(info.batch_size)]), 0

    @staticmethod
    def jvp(ctx: Any, _solve: Any, _product: Any, b_tangent: Any, *tangents: Any) -> Any:
        x, *arrays = _primals(ctx.saved_tensors)
        wanted = [k for k, t in enumerate(tangents) if t is not None]
        residual = torch.zeros_like(x) if b_tangent is None else b_tangent
        if wanted:
            # dA x by the transpose of the gradients, which are linear in the cotangent.
            _, pull = torch.func.vjp(_times(ctx.product, arrays, wanted, x), *(arrays[k] for k in wanted))
            _, transpose = torch.func.vjp(pull, torch.zeros_like(x))
            (pushed,) = transpose(tuple(tangents[k] for k in wanted))
            residual = residual - pushed
        return _Solution.apply(ctx.solve, ctx.product, residual, *arrays)

    @staticmethod
    def backward(ctx: Any, cotangent: Any) -> tuple[Any, ...]:
        x, *arrays = ctx.saved_tensors
        of_b = _Solution.apply(ctx.solve, ctx.product, cotangent, *arrays)  # A is Hermitian
        wanted = [k for k in range(len(arrays)) if ctx.needs_input_grad[3 + k]]
        gradients: list[Any] = [None] * len(arrays)
        if wanted and torch._C._are_functorch_transforms_active():
            _, pull = torch.func.vjp(_times(ctx.product, arrays, wanted, x), *(arrays[k] for k in wanted))
            found = pull(-of_b)
        elif wanted:
            with torch.enable_grad():
                # New views, since one array may have been computed from another.
                values = [arrays[k].view_as(arrays[k]) for k in wanted]
                residual = _times(ctx.product, arrays, wanted, x)(*values)
            found = torch.autograd.grad(residual, values, -of_b, create_graph=torch.is_grad_enabled(), allow_unused=True)
        if wanted:
            for k, gradient in zip(wanted, found, strict=True):
                gradients[k] = gradient
        return (None, None, of_b if ctx.needs_input_grad[2] else None, *gradients)


def _times(product: Product, arrays: Sequence[Any], wanted: Sequence[int], x: Any) -> Any:
    """A x as a function of the wanted arrays."""

    def times(*values: Any) -> Any:
        given = list(arrays)
        for k, value in zip(wanted, values, strict=True):
            given[k] = value
        return product(given)(x)

    return times
