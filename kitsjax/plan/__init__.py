"""Plan a run: its cost on this machine's devices, or on a TPU slice that need not exist here."""
