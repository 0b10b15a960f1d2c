"""`rlcap reward grammar`: a head on a text encoder learns to tell captions from broken ones."""

from rlcap.recipes import parse


def main(argv: list[str]) -> None:
    """Trains the head from a recipe and the command line, and measures it on the test split where there is one."""
    from transformers import set_seed

    from rewards.grammar_model import GrammarModel, GrammarSettings
    from rlcap.console import say
    from rlcap.data import load_captions
    from rlcap.tracking.run_directory import write_json
    from rlcap.training import reward_trainer
    from rlcap.training.grammar import Corpus, EveryKind, GrammarArguments, GrammarTrainer

    (args,) = parse(argv, "reward grammar", GrammarArguments)
    rows = load_captions(args.data, format=args.data_format, check_images=False, drop_empty=True)
    captions: dict[str, list[str]] = {}
    for row in rows.select_columns(["references", "split"]):
        captions.setdefault(row["split"], []).extend(row["references"])
    evaluated = [] if args.eval_strategy == "no" else ["val"]
    for split in ("train", *evaluated):
        if split not in captions:
            raise ValueError(f"{args.data} has no rows in the split {split!r}; there are {', '.join(captions)}")
    set_seed(args.seed)
    model = GrammarModel.create(args.encoder, GrammarSettings(args.encoder, args.width))
    val = Corpus.of(captions["val"]) if evaluated else None
    trainer = GrammarTrainer(model, args, Corpus.of(captions["train"]), val)
    directory = reward_trainer.train(trainer, "reward grammar")
    if "test" in captions:
        model.load_state_dict(GrammarModel.load(directory).state_dict())
        held_out = EveryKind(Corpus.of(captions["test"]), args.max_eval_captions, args.seed)
        measured = trainer.predict(held_out, metric_key_prefix="test").metrics or {}
        accuracy = {name: value for name, value in measured.items() if name.startswith("test_accuracy")}
        if trainer.is_world_process_zero():
            write_json(trainer.run_dir / "accuracy.json", accuracy)
            for name, value in accuracy.items():
                say(f"{name.removeprefix('test_')}: {value:.1f} %")
    if trainer.is_world_process_zero():
        say(f"rlcap: done; rewards.load('grammar', path='{directory}') scores with it")
