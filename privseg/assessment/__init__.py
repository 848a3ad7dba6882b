"""What the protection methods are worth: our own attacks on them, and what is left to see."""
