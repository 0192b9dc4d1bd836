"""`nephos trace`: sends packets as a guest, follows them over every host on their way, and names what ate them."""
