"""Train a small CNN on MNIST, on one or more devices.

python mnist_ddp.py
torchrun --nproc-per-node=2 mnist_ddp.py --workers 2
"""

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class MNIST(Dataset):
    """Images ``(1, 28, 28)`` in 0…1 and their digits; made from a seed, as there is nothing to download here."""

    def __init__(self, size, transform=None):
        generator = torch.Generator().manual_seed(0)
        self.data = torch.randint(0, 256, (size, 28, 28), dtype=torch.uint8, generator=generator)
        self.targets = torch.randint(0, 10, (size,), generator=generator)
        self.transform = transform

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        image, target = self.data[index], int(self.targets[index])
        image = image.unsqueeze(0).float() / 255
        return (self.transform(image) if self.transform else image), target


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image - self.mean) / self.std


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1)
        self.conv2 = nn.Conv2d(16, 32, 3, 1)
        self.fc1 = nn.Linear(32 * 12 * 12, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(x)


def init_distributed_mode(args):
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        args.rank = int(os.environ["RANK"])
        args.world_size = int(os.environ["WORLD_SIZE"])
        args.gpu = int(os.environ["LOCAL_RANK"])
    else:
        print("Not using distributed mode")
        args.distributed, args.rank, args.world_size, args.gpu = False, 0, 1, 0
        return
    args.distributed = True
    if torch.cuda.is_available():
        torch.cuda.set_device(args.gpu)
    dist.init_process_group(backend="nccl" if torch.cuda.is_available() else "gloo", init_method="env://")
    dist.barrier()


def train_one_epoch(model, criterion, optimizer, loader, device, epoch, args):
    model.train()
    seen, began = 0, time.perf_counter()
    for i, (image, target) in enumerate(loader, start=1):
        image, target = image.to(device), target.to(device)
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += image.shape[0] * args.world_size
        if i % args.print_freq == 0 and args.rank == 0:
            now = time.perf_counter()
            print(f"Epoch: [{epoch}] [{i}/{len(loader)}] loss: {loss.item():.4f} img/s: {seen / (now - began):.1f}")
            seen, began = 0, now


@torch.inference_mode()
def evaluate(model, loader, device, args):
    model.eval()
    correct = torch.zeros(2)
    for image, target in loader:
        output = model(image.to(device))
        correct += torch.tensor([(output.argmax(1).cpu() == target).sum(), len(target)])
    if args.distributed:
        dist.all_reduce(correct)
    return (100 * correct[0] / correct[1]).item()


def main(args):
    init_distributed_mode(args)
    torch.manual_seed(args.seed)
    device = torch.device(f"cuda:{args.gpu}" if torch.cuda.is_available() else "cpu")

    transform = Normalize(0.1307, 0.3081)
    dataset, dataset_test = MNIST(args.train_size, transform), MNIST(512, transform)
    train_sampler = test_sampler = None
    if args.distributed:
        train_sampler = DistributedSampler(dataset)
        test_sampler = DistributedSampler(dataset_test, shuffle=False)
    loader = DataLoader(
        dataset,
        batch_size=args.batch_size,
        sampler=train_sampler,
        shuffle=train_sampler is None,
        num_workers=args.workers,
        drop_last=True,
        persistent_workers=args.workers > 0,
    )
    loader_test = DataLoader(dataset_test, batch_size=args.batch_size, sampler=test_sampler)

    model = Net().to(device)
    if args.distributed:
        model = nn.parallel.DistributedDataParallel(model)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)

    start = time.time()
    for epoch in range(args.epochs):
        if train_sampler is not None:
            train_sampler.set_epoch(epoch)
        train_one_epoch(model, criterion, optimizer, loader, device, epoch, args)
        accuracy = evaluate(model, loader_test, device, args)
        if args.rank == 0:
            print(f"Test: Acc@1 {accuracy:.2f}")
        if args.output_dir and args.rank == 0:
            args.output_dir.mkdir(parents=True, exist_ok=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            torch.save(state, args.output_dir / "checkpoint.pth")
    if args.rank == 0:
        print(f"Training time {time.time() - start:.1f} s")
    if args.distributed:
        dist.destroy_process_group()


def get_args_parser():
    parser = argparse.ArgumentParser(description="MNIST training")
    parser.add_argument("-b", "--batch-size", default=32, type=int, help="images per device")
    parser.add_argument("-j", "--workers", default=1, type=int, help="data loading workers per device")
    parser.add_argument("--epochs", default=2, type=int)
    parser.add_argument("--lr", default=0.01, type=float)
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--train-size", default=4096, type=int, help="images of an epoch")
    parser.add_argument("--print-freq", default=10, type=int)
    parser.add_argument("--output-dir", type=Path)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
