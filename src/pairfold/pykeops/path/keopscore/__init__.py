"""What ``import keopscore`` finds in processes that a program under Pairfold's drop-in starts."""

import pairfold.pykeops

pairfold.pykeops.install()
