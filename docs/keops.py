"""The names that KeOps 2.3 documents, at https://www.kernel-operations.io, and what they are called here."""

from __future__ import annotations

# Operators of formula strings: its page "Formulas and syntax", then those that symbols and methods of its LazyTensor stand for.
OPERATORS = """
    Minus Inv Exp Log XLogX Sin SinXDivX Asin Cos Acos Atan Atan2 Pow Powf Square Sqrt Rsqrt Abs Sign Step ReLU Clamp ClampInt IfElse
    Mod Round
    SqNorm2 Norm2 Normalize SqDist WeightedSqNorm WeightedSqDist
    ComplexReal ComplexImag Real2Complex Imag2Complex Conj ComplexAbs ComplexSquareAbs ComplexAngle ComplexSum ComplexSumT ComplexMult
    ComplexScal ComplexRealScal ComplexDivide
    IntCst IntInv Zero Sum Max Min ArgMax ArgMin Elem ElemT Extract ExtractT Concat OneHot
    MatVecMult VecMatMult TensorProd Kron TensorDot
    Grad Diff GradMatrix Divergence Laplacian TraceOperator AdjointOperator

    Add Subtract Mult Divide Scalprod Equal NotEqual LessThan LessOrEqual
    RatCst Floor BSpline SymSqNorm SoftDTW_SqDist Factorize Grad_WithSavedForward Diff_WithSavedForward
""".split()

# Ours that the records do not say: KeOps's takes one operand more.
ALSO = {"mod": "Mod"}

# Reductions of formula strings, and ours.
REDUCTIONS = {
    "Sum": "sum",
    "LogSumExp": "logsumexp",
    "LogSumExpWeight": "logsumexp_weight",
    "SumSoftMaxWeight": "sumsoftmaxweight",
    "Max_SumShiftExp": "logsumexp",
    "Max_SumShiftExpWeight": "logsumexp_weight",
    "Min": "min",
    "ArgMin": "argmin",
    "Min_ArgMin": "min_argmin",
    "Max": "max",
    "ArgMax": "argmax",
    "Max_ArgMax": "max_argmax",
    "KMin": "Kmin",
    "ArgKMin": "argKmin",
    "KMin_ArgKMin": "Kmin_argKmin",
}

# Methods and properties of its LazyTensor, where it has real and where it has complex numbers.
METHODS = """
    abs acos asin atan atan2 bspline cat clamp concat concatenate cos diff difference_matrix dim divergence dtype elem exp extract
    factorize grad grad_matrix ifelse keops_kron keops_tensordot laplacian log matvec matvecmult mod norm norm2 normalize one_hot power
    relu rmatvec round rsqrt shape sign sin sinc sinxdivx softdtw_sqdist sqdist sqnorm2 sqrt square step t T tensorprod trace_operator
    vecmatmult weightedsqdist weightedsqnorm xlogx
    argKmin argmax argmin Kmin Kmin_argKmin logsumexp max max_argmax min min_argmin sum sumsoftmaxweight
    exp1j imag2complex real2complex
""".split()
COMPLEX_METHODS = "abs angle conj exp exp1j imag real sum".split()
