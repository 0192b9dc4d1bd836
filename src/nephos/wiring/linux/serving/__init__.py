"""What a network serves its guests on their own host: DHCP, names, metadata."""
