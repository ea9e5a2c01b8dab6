"""Plan a run: its cost on this machine's devices, or on TPUs or GPUs that need not exist here."""
