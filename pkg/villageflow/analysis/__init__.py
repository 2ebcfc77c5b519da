"""What an ensemble says: policies compared under common random numbers."""
