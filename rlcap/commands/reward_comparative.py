"""`rlcap reward comparative`: a scorer from judgments of captions."""

from rlcap.recipes import parse


def main(argv: list[str]) -> None:
    """Trains a comparative scorer from a recipe and the command line, and tells how far it agrees with people."""
    from rich.table import Table

    from rlcap.console import say
    from rlcap.launching import world
    from rlcap.training.comparative_arguments import ComparativeArguments
    from rlcap.training.comparative_run import describe, run

    world.alone("reward comparative")
    (args,) = parse(argv, "reward comparative", ComparativeArguments)
    report = run(args)
    for split in ("val", "test"):
        say(f"{split}: {describe(report[split])}")
    if "errors" in report:
        table = Table("test, in rating points", "MAE", "RMSE", show_edge=False)
        for name, own in report["errors"].items():
            table.add_row(name, f"{own['mae']:.3f}", f"{own['rmse']:.3f}")
        say(table)
    say(f"rlcap: done; the scorer is in {args.output_dir}/final")
