"""SCST under DDP, FSDP2, ZeRO-2 and ZeRO-3 on the GPUs there are: losses, rewards and weights against DDP's.

    python benchmarks/sharded_gpu.py [--steps 4] [--output runs/sharded_gpu]

Every run is the command that a user would type, `accelerate launch --config_file launch/... -m rlcap scst ...`, of a
small ViT and GPT-2 on drawn scenes, in fp32, with a KL term, cross-entropy, two micro-batches a step and an evaluation
after the last step. It is stopped half-way and goes on from its checkpoint. Samples are a function of the seed and the
rank, so all four see the same captions while their weights agree.

Printed for each: loss and reward of every step, the largest distance of a weight of `final/` to DDP's, and the seconds
of a step. The exit code is 1 where a run fails, or a distance is above 1e-3. One GPU is enough to run the code of all
four; two show that ranks agree. Without a GPU, and without deepspeed for its two, it says so and leaves them out.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, ViTConfig, ViTImageProcessor

import captioners
from captioners import EncoderDecoder
from captioners.tokenizer import train_tokenizer
from rlcap.data import load_captions
from rlcap.data.scenes import make_scenes

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
LIMIT = 1e-3


def main() -> None:
    """Runs what can run here and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="steps of each run, an even number (default 4)")
    parser.add_argument("--output", type=Path, default=Path("runs/sharded_gpu"), help="folder of the runs")
    arguments = parser.parse_args()
    gpus = torch.cuda.device_count()
    if not gpus:
        print("There is no GPU here, and accelerate leaves FSDP and DeepSpeed out on a CPU: nothing was run.")
        return
    files = {"DDP": "ddp" if gpus > 1 else "one_gpu", "FSDP2": "fsdp2"}
    if importlib.util.find_spec("deepspeed"):
        files |= {"ZeRO-2": "deepspeed_zero2", "ZeRO-3": "deepspeed_zero3"}
    else:
        print("deepspeed is not installed (pip install deepspeed): ZeRO-2 and ZeRO-3 are left out.")
    data, captioner = prepared(arguments.output)
    results = {}
    for name, file in files.items():
        run_dir = arguments.output / file
        for steps in (arguments.steps // 2, arguments.steps):
            train(LAUNCH / f"{file}.yaml", gpus, data, captioner, run_dir, steps)
        results[name] = run_dir
    print(f"{gpus} x {torch.cuda.get_device_name()}")
    far = [name for name, run_dir in results.items() if report(name, run_dir, results["DDP"]) > LIMIT]
    if far:
        sys.exit(f"further than {LIMIT} from DDP: {', '.join(far)}")


def prepared(output: Path) -> tuple[Path, Path]:
    """Drawn scenes, and a captioner with random weights that knows their words."""
    data = make_scenes(output / "scenes", 64, 9, 2, seed=1, size=64)  # nine pictures do not divide evenly
    dataset = load_captions(data)
    tokenizer = train_tokenizer([caption for captions in dataset["references"] for caption in captions], 400)
    sizes: dict[str, Any] = {
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    }
    dropout: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        n_positions=40,
        n_embd=256,
        n_layer=4,
        n_head=4,
        **dropout,
    )
    torch.manual_seed(0)
    processor = ViTImageProcessor(size={"height": 64, "width": 64})
    vision = ViTConfig(image_size=64, patch_size=8, **sizes)
    EncoderDecoder.create(vision, decoder, tokenizer, processor).save_pretrained(output / "captioner")
    return data, output / "captioner"


def train(config: Path, gpus: int, data: Path, captioner: Path, run_dir: Path, steps: int) -> None:
    """Starts the command, or goes on with its run."""
    options: dict[str, Any] = {
        "data": data,
        "captioner": captioner,
        "output_dir": run_dir,
        "max_steps": steps,
        "save_steps": steps,
        "eval_strategy": "steps",
        "eval_steps": steps,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "kl_beta": 0.1,
        "xe_weight": 0.1,
        "max_grad_norm": 0.5,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    flags = [str(text) for key, value in options.items() for text in (f"--{key}", value)]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    if config.stem != "one_gpu":
        launcher += ["--num_processes", str(gpus)]
    subprocess.run([*launcher, "-m", "rlcap", "scst", *flags], check=True)


def report(name: str, run_dir: Path, reference: Path) -> float:
    """Prints a row; returns the largest distance of a weight to the reference's."""
    ours, theirs = (captioners.load(folder / "final").state_dict() for folder in (run_dir, reference))
    distance = max(float((tensor - theirs[key]).abs().max()) for key, tensor in ours.items())
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    losses, rewards = ([f"{line[key]:.5f}" for line in steps] for key in ("loss", "reward"))
    seconds = sum(value for key, value in steps[-1].items() if key.startswith("time/"))
    print(
        f"{name:8} loss {' '.join(losses)}  reward {' '.join(rewards)}  distance {distance:.1e}  {seconds:.2f} s/step"
    )
    return distance


if __name__ == "__main__":
    main()
