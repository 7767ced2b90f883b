"""Pairfold beside its peers on fixed workloads: `python -m benchmarks cpu` or `cuda`, then `python -m benchmarks table`.

- `workloads.py`  what is measured: each workload is named once, with its formula, sizes, float64 reference and bar
- `systems.py`    who is measured: Pairfold, KeOps and, on a GPU, torch.compile, behind one small interface
- `targets.py`    where: the device that the points lie on
- `measure.py`    how: interleaved medians, and the measurements that need a process of their own
- `child.py`      what runs in such a process
- `peak.py`       the machine's own limit: the fused multiply-adds a second that its vector units reach
- `peak_cuda.py`  the same of a GPU, and the powers of 2 that its units for those reach
- `machine.py`    what it was measured on
- `report.py`     JSON, the Markdown table and the chart
"""
