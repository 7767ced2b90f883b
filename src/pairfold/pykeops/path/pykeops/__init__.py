"""What ``import pykeops`` finds in processes that a program under Pairfold's drop-in starts."""

if __name__ == "pykeops":  # and not where tools walk over the package
    import pairfold.pykeops

    pairfold.pykeops.install()
