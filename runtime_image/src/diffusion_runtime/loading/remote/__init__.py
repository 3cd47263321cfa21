"""Models that lie elsewhere: which of their files are needed, and how they come into a folder."""
