"""An autoencoder in PyTorch Lightning: torchrun --nproc-per-node=2 lightning_autoencoder.py --devices 2"""

import argparse
import os
import time

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class LitAutoEncoder(L.LightningModule):
    def __init__(self, hidden=128, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(28 * 28, hidden), nn.ReLU(), nn.Linear(hidden, 3))
        self.decoder = nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 28 * 28))

    def training_step(self, batch, batch_idx):
        x, _ = batch
        x = x.view(x.size(0), -1)
        loss = F.mse_loss(self.decoder(self.encoder(x)), x)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, _ = batch
        x = x.view(x.size(0), -1)
        self.log("val_loss", F.mse_loss(self.decoder(self.encoder(x)), x), sync_dist=True)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.9)}


class Digits(L.LightningDataModule):
    """Tensors in the shapes of MNIST, as there is nothing to download here."""

    def __init__(self, size, batch_size, workers):
        super().__init__()
        self.size, self.batch_size, self.workers = size, batch_size, workers

    def setup(self, stage):
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(self.size, 1, 28, 28, generator=generator)
        digits = TensorDataset(images, torch.randint(0, 10, (self.size,), generator=generator))
        self.train, self.val = random_split(digits, [0.9, 0.1], generator=generator)

    def train_dataloader(self):
        return DataLoader(
            self.train, batch_size=self.batch_size, shuffle=True, drop_last=True, num_workers=self.workers
        )

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.batch_size, num_workers=self.workers)


class Throughput(L.Callback):
    def __init__(self, every=10):
        self.every = every

    def on_train_epoch_start(self, trainer, module):
        self.began, self.samples = time.perf_counter(), 0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.samples += len(batch[0]) * trainer.world_size
        if (batch_idx + 1) % self.every == 0:
            now = time.perf_counter()
            if trainer.is_global_zero:
                print(f"epoch {trainer.current_epoch} {self.samples / (now - self.began):.1f} samples/s", flush=True)
            self.began, self.samples = now, 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--size", type=int, default=6400)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()

    L.seed_everything(7)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=args.devices,
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", 1)),
        strategy="ddp" if args.devices > 1 else "auto",
        max_epochs=args.epochs,
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        callbacks=[Throughput(), L.pytorch.callbacks.ModelCheckpoint(monitor="val_loss", save_last=True)],
        enable_progress_bar=False,
        logger=L.pytorch.loggers.CSVLogger("lightning_logs"),
    )
    trainer.fit(LitAutoEncoder(), datamodule=Digits(args.size, args.batch_size, args.workers))


if __name__ == "__main__":
    main()
