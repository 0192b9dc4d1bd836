"""Who may send what to whom: spoofing, security groups, the hosts' tunnels, and other people's firewalls."""
