"""The prompts that chains answer, held against the one that a captioner is asked with."""

from datasets import Dataset

from rlcap.data.rows import shown


def require_prompt(chains: Dataset, prompt: str | None) -> None:
    """Raises ValueError where chains (rows of `load_chains`) answer another prompt than `prompt`; None: no prompt.

    A captioner scores all captions under its one prompt, so that answers to other questions would be learned as
    captions of the picture. Rows whose prompt is null say nothing of it, and pass.
    """
    if "prompt" not in chains.column_names:
        return
    own = (prompt or "").strip()
    others = [
        (image_id, asked)
        for image_id, asked in zip(chains["image_id"], chains["prompt"], strict=True)
        if asked is not None and asked.strip() != own
    ]
    if not others:
        return
    image_id, asked = others[0]
    raise ValueError(
        f"{len(others)} of {len(chains)} chains answer another prompt than the captioner's, "
        f'{shown(own) if own else "which has none"}: the first is {shown(asked)}, of "{image_id}". Every caption is '
        "scored under the captioner's one prompt: choose it by --prompt where the captioner takes one, leave the other "
        "chains out, or, where they all ask for a caption in other words, give --ignore_prompts true (rank-eval: "
        "--ignore-prompts)"
    )
