"""`pykeops.numpy.cluster`."""
