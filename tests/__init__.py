"""The tests of Pairfold: they mirror src/pairfold."""
