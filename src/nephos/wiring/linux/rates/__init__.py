"""What limits and what guarantees a rate, by the kernel's queueing disciplines."""
