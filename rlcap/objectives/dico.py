"""DiCO: the best sample against the others, weighted by how much worse they are."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlcap.objectives.reduction import Total


def dico(scores: Tensor, rewards: Tensor, temperature: float = 300.0) -> Total:
    """`-log sigmoid(s_w - sum_i gamma_i s_i)`, gamma = softmax_i(temperature (r_w - r_i)) over all but the winner w.

    (Moratelli et al. 2024, "Revisiting image captioning training paradigm via direct CLIP-based optimization", as
    its code computes it, with 300 for rewards of PAC-S and beta 0.2.) scores `[B, K]`: `beta (log policy - log
    reference)` summed over a caption's tokens, see `ranking.implicit_rewards`. rewards `[B, K]`, NaN where a caption
    was not scored, which leaves it out; gradient flows through the scores only.

    The worst losers weigh most. Counted are pictures with two or more captions that were scored.
    """
    scored = ~rewards.isnan()
    known = torch.nan_to_num(rewards, nan=-torch.inf)
    winner = known.argmax(-1, keepdim=True)
    losers = scored.scatter(-1, winner, False)
    gaps = torch.where(losers, known.gather(-1, winner) - known, -torch.inf)
    ranked = losers.any(-1)
    gamma = torch.where(ranked[:, None], (temperature * gaps).softmax(-1), 0.0)
    margins = scores.gather(-1, winner).squeeze(-1) - (torch.nan_to_num(gamma) * scores).sum(-1)
    return Total(-(logsigmoid(margins) * ranked).sum(), ranked.sum())
