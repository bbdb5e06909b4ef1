"""What a run leaves behind: its folder, figures, token-level episode log, and report."""
