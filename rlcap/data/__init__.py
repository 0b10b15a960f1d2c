"""Captions, pictures and clips: readers, decoding that survives bad files, cached features, and drawn scenes."""

from rlcap.data.captions import load_captions, require_references
from rlcap.data.chains import load_chains

__all__ = ["load_captions", "load_chains", "require_references"]
