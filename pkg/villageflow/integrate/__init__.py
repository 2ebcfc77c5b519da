"""Running programs over blocks of members."""
