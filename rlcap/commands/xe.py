"""`rlcap xe`: cross-entropy training on reference captions."""

from rlcap.recipes import parse


def main(argv: list[str]) -> None:
    """Trains with cross-entropy from a recipe and the command line."""
    from rlcap.training import run
    from rlcap.training.arguments import CaptionerArguments, DataArguments
    from rlcap.training.xe import XEArguments, XETrainer

    data, captioner_arguments, args = parse(argv, "xe", DataArguments, CaptionerArguments, XEArguments)
    train, val = run.load_splits(data, evaluated=args.eval_strategy != "no")
    run.require_training_references(train)
    captioner = run.load_captioner(captioner_arguments, train, args.seed)
    features = run.open_features(data, captioner, args.freeze, [train, val])
    described = run.describe(data, captioner_arguments, captioner)
    measuring = run.load_eval_rewards(args, train, described)
    trainer = XETrainer(
        captioner, args, train, val, features=features, callbacks=run.trackers(args), eval_rewards=measuring
    )
    run.train_to_end(trainer, "xe", described)
