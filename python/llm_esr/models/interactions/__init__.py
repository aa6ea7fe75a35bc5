"""How item views look at each other."""
