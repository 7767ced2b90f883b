"""PyTorch tensors, and their derivatives: a fold is one differentiable function, and so are the folds of its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..fold import AXIS_OF, Fold
from ..reductions import Selection
from ..runtime.cpu import Operand
from .base import Backend

DTYPES = {32: torch.float32, 64: torch.float64}


class TorchBackend(Backend):
    """PyTorch: results take part in autograd, to any order."""

    name = "torch"
    convert = "x.float()"

    def owns(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor)

    def dtype(self, array: Any) -> str:
        return str(array.dtype).removeprefix("torch.")

    def device(self, array: Any) -> str:
        return str(array.device)

    def unreadable(self, array: Any) -> str | None:
        if array.is_nested:
            return "is nested: pass its parts one by one"
        if array.layout is not torch.strided:
            return f"has the layout {array.layout}: make it dense first, e.g. x.to_dense()"
        if array.device.type != "cpu":
            return f"is on device {array.device}, but formulas are computed on the CPU: move it first, e.g. x.cpu()"
        return None

    def scalar(self, value: float, like: Any) -> Any:
        return torch.full((1,), value, dtype=like.dtype, device=like.device)

    def operand(self, array: Any) -> Operand:
        bytes = array.element_size()
        strides = array.stride()
        return Operand(array.data_ptr(), strides[0] * bytes if len(strides) == 2 else 0, strides[-1] * bytes)

    def differentiable(self, arrays: Sequence[Any]) -> bool:
        if torch._C._are_functorch_transforms_active():
            return True
        return torch.is_grad_enabled() and any(a.requires_grad for a in arrays)

    def results(self, fold: Fold, arrays: Sequence[Any], kept: int, reduced: int, bits: int) -> tuple[Any, ...]:
        if self.differentiable(arrays):
            if isinstance(fold.reduction, Selection) and reduced:
                return self._selected(fold, arrays, kept, reduced, bits)
            return tuple(_Fold.apply(self, fold, kept, reduced, bits, *arrays))
        return self.compute(fold, arrays, kept, reduced, bits)

    def _selected(self, fold: Fold, arrays: Sequence[Any], kept: int, reduced: int, bits: int) -> tuple[Any, ...]:
        """Minima and their kin, differentiable: find the pairs, then compute the formula at those pairs alone."""
        to_indices, at_pairs = fold.selection
        (index,) = self.compute(to_indices, arrays, kept, reduced, bits)
        a_row = index.shape[1]
        pairs = {AXIS_OF[1 - fold.axis]: torch.arange(kept).repeat_interleave(a_row), AXIS_OF[fold.axis]: index.reshape(-1)}
        operands = [a[pairs[v.attrs[0]]] if v.axes else a for a, v in zip(arrays, fold.variables, strict=True)]
        (values,) = self.results(at_pairs, operands, kept * a_row, 1, bits)
        # Each component was selected for itself.
        component = torch.arange(a_row).remainder(fold.dims[0]).repeat(kept)
        values = values.gather(1, component[:, None]).reshape(kept, a_row)
        return tuple(index if r.kind == "index" else values for r in fold.results)

    def compute(self, fold: Fold, arrays: Sequence[Any], kept: int, reduced: int, bits: int) -> tuple[Any, ...]:
        """The results themselves."""
        outputs = [torch.empty((kept, r.dim), dtype=torch.int64 if r.kind == "index" else DTYPES[bits]) for r in fold.results]
        if reduced == 0:
            for output, value in zip(outputs, fold.of_nothing(), strict=True):
                output[:] = torch.tensor(value)
        elif kept:
            if any(torch._C._functorch.is_legacy_batchedtensor(a) for a in arrays):
                raise RuntimeError("batched gradients by is_grads_batched=True or vectorize=True are not supported: use torch.func.vmap")
            arrays = [a.resolve_neg() for a in arrays]  # kept until the kernel is done
            fold.run([self.operand(a) for a in arrays], [o.data_ptr() for o in outputs], kept, reduced, bits)
            del arrays  # named here, so that nobody who rewrites this frame (torch.compile does) frees them any earlier
        return tuple(outputs)

    def transpose(self, array: Any) -> Any:
        return array.T


class _Fold(torch.autograd.Function):
    """A fold as autograd sees it."""

    @staticmethod
    def forward(backend: TorchBackend, fold: Fold, kept: int, reduced: int, bits: int, *arrays: Any) -> tuple[Any, ...]:
        return backend.compute(fold, arrays, kept, reduced, bits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.backend, ctx.fold, ctx.kept, ctx.reduced, ctx.bits, *arrays = inputs
        kinds = [r.kind for r in ctx.fold.results]
        ctx.mark_non_differentiable(*(o for o, kind in zip(output, kinds, strict=True) if kind == "index"))
        ctx.save_for_backward(*arrays, *(o for o, kind in zip(output, kinds, strict=True) if kind == "real"))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], backend: TorchBackend, fold: Fold, *rest: Any) -> tuple[Any, Any]:
        """One fold after the other, for torch.func.vmap and batched gradients."""
        sizes, arrays = rest[:3], rest[3:]
        batches = []
        for k in range(info.batch_size):
            each = [a if d is None else a.select(d, k) for a, d in zip(arrays, in_dims[5:], strict=True)]
            batches.append(_Fold.apply(backend, fold, *sizes, *each))
        return tuple(torch.stack(parts) for parts in zip(*batches, strict=True)), (0,) * len(fold.results)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        fold: Fold = ctx.fold
        saved = ctx.saved_tensors
        real = [g for g, r in zip(cotangents, fold.results, strict=True) if r.kind == "real"]
        operands = [*saved, *real]
        arrays = saved[: len(fold.variables)]
        wanted = tuple(k for k in range(len(arrays)) if ctx.needs_input_grad[5 + k])
        # Where nothing was reduced nothing depends on the operands.
        pullbacks = fold.backward(wanted) if ctx.reduced else []
        gradients: list[Any] = [torch.zeros_like(a) if k in wanted else None for k, a in enumerate(arrays)]
        for pullback in pullbacks:
            sizes = (ctx.kept, ctx.reduced) if pullback.fold.axis == fold.axis else (ctx.reduced, ctx.kept)
            (found,) = ctx.backend.results(pullback.fold, [operands[k] for k in pullback.inputs], *sizes, ctx.bits)
            for k, start, stop in pullback.targets:
                part = found[:, start:stop]
                gradients[k] = part if arrays[k].ndim == 2 else part.sum(0)
        return (None, None, None, None, None, *gradients)
