"""Generated positives for PAC-S++: captions for pictures, and pictures for captions."""
