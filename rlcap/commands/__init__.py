"""One module a command: parse arguments, wire parts, call."""
