"""Trainers: transformers.Trainer with what captioning needs."""
