"""What lies between a launcher and a command: how many processes there are, how they are told to stop, how they end."""
