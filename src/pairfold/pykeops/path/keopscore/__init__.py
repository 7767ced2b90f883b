"""What ``import keopscore`` finds in processes that a program under Pairfold's drop-in starts."""

if __name__ == "keopscore":  # and not where tools walk over the package
    import pairfold.pykeops

    pairfold.pykeops.install()
