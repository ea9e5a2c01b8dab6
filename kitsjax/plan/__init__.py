"""What a run would cost on a machine that need not be here."""
