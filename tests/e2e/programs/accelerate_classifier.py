"""A text classifier with Hugging Face Accelerate: accelerate launch accelerate_classifier.py, or torchrun"""

import argparse
import time

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

VOCABULARY, LENGTH, CLASSES = 1000, 32, 2


class Pairs(Dataset):
    """Sentences of word numbers and whether they are paraphrases; made from a seed."""

    def __init__(self, size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.input_ids = torch.randint(1, VOCABULARY, (size, LENGTH), generator=generator)
        self.labels = self.input_ids.sum(1) % CLASSES

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"input_ids": self.input_ids[index], "labels": self.labels[index]}


class Classifier(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.encoder = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, input_ids, labels):
        logits = self.head(self.encoder(self.embedding(input_ids)).mean(1))
        return nn.functional.cross_entropy(logits, labels), logits


def training_function(args):
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
    )
    set_seed(42)
    train_dataloader = DataLoader(Pairs(args.size, 0), shuffle=True, batch_size=args.batch_size, drop_last=True)
    eval_dataloader = DataLoader(Pairs(256, 1), batch_size=32)
    model = Classifier().to(accelerator.device)
    optimizer = AdamW(params=model.parameters(), lr=args.lr)
    total = args.epochs * len(train_dataloader) // args.gradient_accumulation_steps
    scheduler = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / max(1, total)))
    model, optimizer, train_dataloader, eval_dataloader, scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, scheduler
    )

    for epoch in range(args.epochs):
        model.train()
        samples, steps, began = 0, 0, time.perf_counter()
        for batch in train_dataloader:
            with accelerator.accumulate(model):
                loss, _ = model(**batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            samples += len(batch["labels"]) * accelerator.num_processes
            if accelerator.sync_gradients:
                steps += 1
                if steps % args.log_every == 0:
                    now = time.perf_counter()
                    accelerator.print(f"epoch {epoch}: loss {loss.item():.4f}, {samples / (now - began):.1f} samples/s")
                    samples, began = 0, now

        model.eval()
        right = total_seen = 0
        for batch in eval_dataloader:
            with torch.no_grad():
                _, logits = model(**batch)
            predictions, references = accelerator.gather_for_metrics((logits.argmax(-1), batch["labels"]))
            right, total_seen = right + (predictions == references).sum().item(), total_seen + len(references)
        accelerator.print(f"epoch {epoch}: accuracy {right / total_seen:.3f}")
        if args.output_dir:
            accelerator.save_state(args.output_dir)
    accelerator.end_training()


def main():
    parser = argparse.ArgumentParser(description="Simple example of a training script.")
    parser.add_argument("--mixed_precision", default=None, choices=["no", "fp16", "bf16"])
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--size", type=int, default=6400)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--log_every", type=int, default=10)
    parser.add_argument("--output_dir", default=None)
    training_function(parser.parse_args())


if __name__ == "__main__":
    main()
