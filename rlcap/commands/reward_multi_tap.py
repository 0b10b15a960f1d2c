"""`rlcap reward multi-tap`: an LVLM learns ratings (stage 1), then each objective from its embeddings (stage 2)."""

from rlcap.recipes import parse


def main(argv: list[str]) -> None:
    """Trains both stages from a recipe and the command line."""
    from transformers import set_seed

    from rlcap.console import say
    from rlcap.training import reward_trainer
    from rlcap.training.multi_tap import MultiTapArguments, MultiTapTrainer, new_model
    from rlcap.training.multi_tap_stages import rated_splits, stage_two

    (args,) = parse(argv, "reward multi-tap", MultiTapArguments)
    judgments = rated_splits(args)
    train = judgments.of("train").captions
    val = None if args.eval_strategy == "no" else judgments.of("val").captions
    set_seed(args.seed)
    trainer = MultiTapTrainer(new_model(args, train), args, train, val)
    directory = reward_trainer.train(trainer, "reward multi-tap")
    if trainer.is_world_process_zero():
        stage_two(args, directory, judgments.captions)
        say(f"rlcap: done; rewards.load('multi-tap', path='{directory}') scores with it")
