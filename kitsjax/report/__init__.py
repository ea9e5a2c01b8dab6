"""Results section: statistics, tables, figures, and the page that holds them; no JAX."""
