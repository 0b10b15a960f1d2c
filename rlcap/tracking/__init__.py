"""What a run leaves behind: its folder, W&B and TensorBoard."""
