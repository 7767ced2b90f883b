"""``python -m pairfold.pykeops script.py args``, ``-m module args``, ``-c command args``: run a program of pykeops, served by Pairfold."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from . import install

USAGE = "usage: python -m pairfold.pykeops script.py [arguments] | -m module [arguments] | -c command [arguments]"


def main() -> None:
    """Do as ``python`` does with the same arguments."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help") or arguments[0] in ("-m", "-c") and len(arguments) < 2:
        print(USAGE)
        raise SystemExit(0 if arguments[:1] in (["-h"], ["--help"]) else 2)
    install()
    # Processes that the program starts find the same packages first: by the variable, or by this process's own path, which
    # multiprocessing gives to those that it spawns.
    shims = str(Path(__file__).parent / "path")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [shims, os.environ.get("PYTHONPATH", "")]))
    sys.path.insert(1, shims)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.path[0] = ""
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        sys.argv = arguments
        if not Path(arguments[0]).exists():
            print(f"pairfold.pykeops: there is no file {arguments[0]!r}", file=sys.stderr)
            raise SystemExit(2)
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
