"""People: who is asked what and in which order, how far they are, and how well they agree. Decisions alone."""
