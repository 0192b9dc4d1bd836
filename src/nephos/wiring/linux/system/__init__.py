"""The kernel and processes of a host: netlink, namespaces, nftables, daemons, what is remembered. Knows nothing of networks."""
