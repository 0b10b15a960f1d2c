"""Captions made worse by one detail at a time: by rules over a parse, or by a chat model."""
