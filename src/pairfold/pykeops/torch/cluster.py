"""`pykeops.torch.cluster`."""
