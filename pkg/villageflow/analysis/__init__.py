"""What models say beyond a fit: policies over an ensemble."""
