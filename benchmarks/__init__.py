"""kitsjax beside its peers: the same work on the same arrays in the same run."""
