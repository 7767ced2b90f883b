"""``import pykeops`` served by Pairfold: from inside, from the command line, in child processes, with and without the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from pairfold.pykeops.install import MODULES

from .helpers import SOURCE, python

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, os.environ.get("PYTHONPATH", "")])}
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")


SCRIPT = """
import sys
import numpy as np
import pykeops
from pykeops.numpy import LazyTensor, Genred, Vi, Vj

x, y = np.random.rand(5, 2), np.random.rand(6, 2)
assert np.allclose(((Vi(x) - Vj(y)) ** 2).sum(-1).sum(axis=1)[:, 0], ((x[:, None] - y) ** 2).sum((1, 2)))
print(sys.argv[1:], __name__, LazyTensor.__module__, "torch" in sys.modules)
"""


def test_script(tmp_path):
    (tmp_path / "beside.py").write_text("there = True\n")
    (tmp_path / "script.py").write_text(SCRIPT + "import beside\nassert beside.there\n")
    found = python("-m", "pairfold.pykeops", "script.py", "a", "--b=1", cwd=tmp_path)
    assert found == "['a', '--b=1'] __main__ pairfold.pykeops.numpy False\n"


def test_module_and_command(tmp_path):
    (tmp_path / "tool.py").write_text(SCRIPT)
    assert "['c'] __main__ pairfold.pykeops.numpy False" in python("-m", "pairfold.pykeops", "-m", "tool", "c", cwd=tmp_path)
    assert "['d'] __main__ pairfold.pykeops.numpy False" in python("-m", "pairfold.pykeops", "-c", SCRIPT, "d", cwd=tmp_path)


def test_pytest(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it():\n    import pykeops.numpy\n    assert 'pairfold' in pykeops.numpy.__file__\n")
    assert "1 passed" in python("-m", "pairfold.pykeops", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py", cwd=tmp_path)


def test_usage():
    assert "usage: python -m pairfold.pykeops" in python("-m", "pairfold.pykeops", "--help")
    failed = subprocess.run(
        [sys.executable, "-m", "pairfold.pykeops"], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert failed.returncode == 2 and "usage" in failed.stdout


@pytest.fixture
def real(tmp_path):
    """A folder with packages called pykeops and keopscore, as an installation has them."""
    for name in ("pykeops", "keopscore"):
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").write_text("real = True\n")
    return tmp_path / "site"


def test_in_front_of_an_installed_one(real, tmp_path):
    program = (
        "import pykeops, keopscore; assert not hasattr(pykeops, 'real') and not hasattr(keopscore, 'real'); print(pykeops.__version__)"
    )
    assert python("-m", "pairfold.pykeops", "-c", program, path=[real]) == "2.3\n"
    spawned = (
        "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'import pykeops.numpy; import keopscore; "
        "print(pykeops.numpy.LazyTensor.__module__, keopscore.__name__)'], capture_output=True, text=True, check=True).stdout)"
    )
    assert "pairfold.pykeops.numpy pairfold.pykeops.keopscore" in python("-m", "pairfold.pykeops", "-c", spawned, path=[real])


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_multiprocessing_starts(real, tmp_path, method):
    (tmp_path / "script.py").write_text(f"""
import multiprocessing
import pykeops
def child():
    print("pairfold" in pykeops.__file__, hasattr(pykeops, "real"), flush=True)
if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=child)
    process.start()
    process.join(60)
    print(process.exitcode)
""")
    assert python("-m", "pairfold.pykeops", "script.py", path=[real], cwd=tmp_path) == "True False\n0\n"


def test_no_such_script(tmp_path):
    failed = subprocess.run(
        [sys.executable, "-m", "pairfold.pykeops", "nothing.py"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert failed.returncode == 2 and failed.stderr == "pairfold.pykeops: there is no file 'nothing.py'\n"


def test_install_from_inside(real):
    program = """
import warnings
import pairfold.pykeops
pairfold.pykeops.install()
pairfold.pykeops.install()
import pykeops
from pykeops.numpy.lazytensor.LazyTensor import LazyTensor
import pykeops.numpy
assert pykeops.numpy.LazyTensor is LazyTensor and pykeops is pairfold.pykeops
assert pykeops.__spec__.name == "pairfold.pykeops", pykeops.__spec__
pairfold.pykeops.uninstall()
import pykeops
assert pykeops.real
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pairfold.pykeops.install()
assert "imported before" in str(caught[0].message), caught
import pykeops
assert not hasattr(pykeops, "real")
try:
    import pykeops.nothing
except ModuleNotFoundError as error:
    assert error.name == "pykeops.nothing"
else:
    raise AssertionError
"""
    python("-c", program, path=[real])


@needs_torch
def test_all_modules():
    program = f"""
from importlib import import_module
for name in {list(MODULES)!r}:
    module = import_module(name)
import pykeops, keopscore
from pykeops.torch.lazytensor.LazyTensor import LazyTensor, ComplexLazyTensor, Vi, Vj, Pm
from pykeops.torch.generic.generic_red import Genred
from pykeops.torch.generic.generic_ops import generic_sum, generic_logsumexp, generic_argmin, generic_argkmin
from pykeops.torch.operations import KernelSolve
from pykeops.torch.cluster.grid_cluster import grid_cluster
from pykeops.torch.cluster.utils import sort_clusters, swap_axes
from pykeops.torch.cluster.matrix import from_matrix
from pykeops.common.lazy_tensor import GenericLazyTensor, ComplexGenericLazyTensor
from pykeops.common.utils import axis2cat, get_tools
from pykeops.common.operations import ConjugateGradientSolver
from pykeops.common.get_options import get_tag_backend
from pykeops.common.gpu_utils import get_gpu_number
from pykeops.common.parse_type import get_sizes, get_type, complete_aliases
assert issubclass(LazyTensor, GenericLazyTensor)
assert pykeops.torch.LazyTensor is LazyTensor and get_tools("torch").LazyTensor is LazyTensor
import torch
assert get_gpu_number() == torch.cuda.device_count()
assert get_tag_backend("auto", (torch.ones(2),), str=True) == ("CPU", "1D", "host")
"""
    python("-m", "pairfold.pykeops", "-c", program)


def test_settings(tmp_path):
    program = f"""
import os
import keopscore
import pykeops
from pykeops import config
assert config.gpu_available in (False, True) and pykeops.config.gpu_available == config.gpu_available
assert config.numpy_found and isinstance(config.torch_found, bool)
keopscore.config.config.use_cuda = False
assert keopscore.config.config.use_cuda is False
keopscore.config.cuda_config.set_use_cuda(False)
assert keopscore.config.cuda_config.get_use_cuda() is False
import keopscore.config.config
keopscore.config.config.use_cuda = True
before = pykeops.get_build_folder()
pykeops.set_build_folder({str(tmp_path)!r})
assert pykeops.get_build_folder() == {str(tmp_path)!r}
assert not os.listdir({str(tmp_path)!r})
pykeops.set_verbose(True)
pykeops.test_numpy_bindings()
assert len(os.listdir({str(tmp_path)!r})) > 0
open(os.path.join({str(tmp_path)!r}, "mine"), "w").close()
pykeops.clean_pykeops(recompile_jit_binaries=False)
assert os.listdir({str(tmp_path)!r}) == ["mine"]
pykeops.set_verbose(False)
pykeops.test_numpy_bindings()
pykeops.set_build_folder()
assert pykeops.get_build_folder() == before
pykeops.check_health()
"""
    found = python("-m", "pairfold.pykeops", "-c", program, PAIRFOLD_CACHE_DIR=str(tmp_path / "kernels"))
    assert found.count("numpy bindings is working") == 1 and "by Pairfold" in found


@needs_torch
def test_torch_bindings():
    assert "torch bindings is working" in python("-m", "pairfold.pykeops", "-c", "import pykeops; pykeops.test_torch_bindings()")


def test_without_torch(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('no torch here')\n")
    (tmp_path / "program.py").write_text(SCRIPT + "from pykeops.numpy import cluster\nfrom pykeops.numpy.utils import numpytools\n")
    assert "pairfold.pykeops.numpy False" in python("-m", "pairfold.pykeops", "program.py", cwd=tmp_path)
    failing = "try:\n    import pykeops.torch\nexcept ImportError as error:\n    print(error)"
    (tmp_path / "program.py").write_text(failing)
    assert "no torch here" in python("-m", "pairfold.pykeops", "program.py", cwd=tmp_path)


@needs_torch
@pytest.mark.parametrize("first", ["pykeops", "pykeops.torch", "pykeops.numpy"])
def test_modules_that_keops_imports_itself(first, tmp_path):
    script = f"""
import {first}
from importlib.metadata import version
for name in ("torch.LazyTensor", "numpy.LazyTensor", "common.utils.pyKeOps_Print", "common.lazy_tensor.GenericLazyTensor",
             "torch.cluster.grid_cluster", "torch.operations.KernelSolve", "torch.generic.generic_red.Genred",
             "torch.lazytensor.LazyTensor.LazyTensor", "numpy.lazytensor.LazyTensor.LazyTensor", "keopscore.config.config"):
    found = pykeops
    for part in name.split("."):
        found = getattr(found, part)
assert pykeops.torch.lazytensor.LazyTensor.LazyTensor is pykeops.torch.LazyTensor
assert not hasattr(pykeops, "nothing_of_that_name") and not hasattr(pykeops.torch, "nothing_of_that_name")
print(version("pykeops"), pykeops.config.pykeops_cuda.get_use_cuda() == pykeops.config.gpu_available)
"""
    (tmp_path / "script.py").write_text(script)
    assert python("-m", "pairfold.pykeops", "script.py", cwd=tmp_path) == "2.3 True\n"
