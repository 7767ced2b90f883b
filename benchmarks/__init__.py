"""Pairfold beside its peers on fixed workloads: `python -m benchmarks cpu`, then `python -m benchmarks table`.

- `workloads.py`  what is measured: each workload is named once, with its formula, sizes, float64 reference and bar
- `systems.py`    who is measured: Pairfold and KeOps, behind one small interface
- `targets.py`    where: the device that the points lie on
- `measure.py`    how: interleaved medians, and the measurements that need a process of their own
- `child.py`      what runs in such a process
- `peak.py`       the machine's own limit: the fused multiply-adds a second that its vector units reach
- `machine.py`    what it was measured on
- `report.py`     JSON, the Markdown table and the chart
"""
