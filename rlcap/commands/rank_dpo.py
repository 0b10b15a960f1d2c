"""`rlcap rank-dpo`: fine-tuning on chains of captions, each a detail worse than the one before."""

from rlcap.recipes import parse


def main(argv: list[str]) -> None:
    """Ranking-DPO from a recipe and the command line."""
    from rlcap.training import run
    from rlcap.training.arguments import CaptionerArguments, require
    from rlcap.training.chain_rows import captioned_pictures, load_chain_splits
    from rlcap.training.ranking_arguments import ChainDataArguments, RankingArguments
    from rlcap.training.ranking_dpo import RankingTrainer

    data, captioner_arguments, args = parse(argv, "rank-dpo", ChainDataArguments, CaptionerArguments, RankingArguments)
    require(
        captioner_arguments.captioner is not None,
        "captioner",
        None,
        "a captioner that captions already: train one with `rlcap xe` first",
    )
    train, val = load_chain_splits(data, evaluated=args.eval_strategy != "no")
    captioner = run.load_captioner(captioner_arguments, train, args.seed)
    features = run.open_features(data, captioner, args.freeze, [train, val])
    described = run.describe(data, captioner_arguments, captioner)
    corpus = captioned_pictures(train) if args.eval_rewards else train
    measuring = run.load_eval_rewards(args, corpus, described)
    trainer = RankingTrainer(
        captioner, args, train, val, features=features, callbacks=run.trackers(args), eval_rewards=measuring
    )
    run.train_to_end(trainer, "rank-dpo", described)
