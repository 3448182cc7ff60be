"""Plans that hypothesis draws, run on whole nodes, and shrunk by it when they fail."""
