"""`rlcap scst`: fine-tuning on rewards."""

from rlcap.recipes import parse


def main(argv: list[str]) -> None:
    """Self-critical sequence training from a recipe and the command line."""
    import rewards
    from rlcap.training import run
    from rlcap.training.arguments import CaptionerArguments, DataArguments
    from rlcap.training.scst import SCSTTrainer
    from rlcap.training.scst_arguments import SCSTArguments

    data, captioner_arguments, args = parse(argv, "scst", DataArguments, CaptionerArguments, SCSTArguments)
    train, val = run.load_splits(data, evaluated=args.eval_strategy != "no")
    captioner = run.load_captioner(captioner_arguments, train, args.seed)
    features = run.open_features(data, captioner, args.freeze, [train, val])
    functions = run.load_rewards(args, train)
    if args.xe_weight or any("references" in function.needs for function in functions):
        run.require_training_references(train)
    if any("images" in function.needs for function in functions):
        run.require_pictures(train)
    described = run.describe(data, captioner_arguments, captioner)
    measuring = run.load_eval_rewards(args, train, described)
    trainer = SCSTTrainer(
        captioner,
        args,
        train,
        val,
        reward_functions=functions,
        features=features,
        callbacks=run.trackers(args),
        eval_rewards=measuring,
    )
    described["scored_by"] = [rewards.describe(function) for function in functions]
    run.train_to_end(trainer, "scst", described)
