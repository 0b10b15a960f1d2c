"""What is installed here, what can run here, and whether two processes can train together: `rlcap doctor`."""
