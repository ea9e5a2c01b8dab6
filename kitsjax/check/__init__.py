"""Look through a data set before training: facts, faults and pictures of every case."""
