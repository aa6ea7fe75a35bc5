"""What reads a sequence of item vectors."""
