"""A network's bridge and what joins it to other hosts."""
