"""Code generation: plans to LLVM IR. Knows formulas and plans, no arrays and no users."""
