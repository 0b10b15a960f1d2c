from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny import favour_end, pictures, tiny_encoder_decoder

from captioners import GenerationSettings


def _count_steps(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    captioner = tiny_encoder_decoder()
    # Rank 0 wants to end at once, rank 1 goes on to the length limit.
    favour_end(captioner, 200.0 if rank == 0 else 0.0)
    captioner.synchronised = True
    steps: list[int] = []
    captioner.model.decoder.transformer.register_forward_pre_hook(lambda *_: steps.append(1))
    context = captioner.encode(captioner.preprocess(pictures(3)))
    settings = GenerationSettings(max_new_tokens=9)
    sample = captioner.sample(context, 2, settings, torch.Generator().manual_seed(0))
    counts = [len(steps), int(sample.mask.sum(-1).max())]
    captioner.beam_search(context, settings)
    counts.append(len(steps) - counts[0])
    torch.save(torch.tensor(counts), Path(folder) / f"counts{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_step_together_until_all_captions_have_ended(tmp_path) -> None:
    mp.spawn(_count_steps, (str(tmp_path),), nprocs=2)
    counts = [torch.load(tmp_path / f"counts{rank}.pt", weights_only=True).tolist() for rank in range(2)]
    assert counts[0] == [9, 1, 9]
    assert counts[1] == [9, 9, 9]
