"""Sends packets as a guest and follows them over this host by captures and the kernel's rule tracing."""
