#!/usr/bin/env python3
"""Steps of training of the default network in PyTorch, and of `tessera train` on the same machine.

    pip install torch numpy
    cargo build --release
    python3 benches/peers/train_step.py [FOLDER_OF_AUDIO] [--batch 16] [--threads 2]

The same layers, codes and losses at the same sizes, in float32 on the CPU, with random weights and noise for
sound: the time does not depend on their values. Prints seconds a step of each, and their ratio.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F

RATE, HOP, WINDOW, DIM, HIDDEN, TAPS = 48_000, 480, 1920, 384, 1152, 7
STRIDES, CODES, WIDTH = [4, 2, 1, 1, 2, 1, 1], 1024, 8
LEARNED, BANDS, VOICES, EXCITED = 40, 192, 16, 280
BINS = WINDOW // 2 + 1
# Two resolutions a step, in turn: window, mel bands, whether spectra are compared.
TURNS = [[(2048, 320, True), (256, 40, True)], [(1024, 160, True), (128, 20, False)],
         [(4096, 400, True), (512, 80, True)], [(2048, 320, True), (64, 10, False)],
         [(1024, 160, True), (32, 5, False)], [(4096, 400, True), (512, 80, True)]]
COMPLEX_TOP = 900.0


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise = torch.nn.Conv1d(DIM, DIM, TAPS, groups=DIM)
        self.widen, self.narrow = torch.nn.Linear(DIM, HIDDEN), torch.nn.Linear(HIDDEN, DIM)
        self.gain = torch.nn.Parameter(torch.full((DIM,), 0.1))

    def forward(self, x):
        h = self.depthwise(F.pad(x.transpose(1, 2), (TAPS - 1, 0))).transpose(1, 2)
        h = F.gelu(self.widen(F.layer_norm(h, (DIM,))), approximate="tanh")
        return x + self.narrow(h) * self.gain


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        linear = torch.nn.Linear
        self.analysis, self.levels = linear(WINDOW, DIM), linear(64, DIM)
        self.encoder = torch.nn.ModuleList(Block() for _ in range(2))
        self.down = torch.nn.ModuleList(linear(DIM * s, WIDTH) for s in STRIDES)
        self.up = torch.nn.ModuleList(linear(WIDTH, DIM * s) for s in STRIDES)
        self.input = linear(DIM, DIM)
        self.decoder = torch.nn.ModuleList(Block() for _ in range(3))
        self.head = linear(DIM, 3 * LEARNED + BANDS + VOICES)
        for name, tensor in {
            "gather": torch.rand(481, 64) / 64,
            "expand": torch.rand(BANDS, BINS - LEARNED) / BANDS,
            "voices": torch.rand(VOICES, EXCITED) / VOICES,
            "noise": torch.randn(2, 512, BINS),
            "codes": torch.randn(len(STRIDES), CODES, WIDTH),
            "sums": torch.randn(len(STRIDES), CODES, WIDTH),
            "usage": torch.ones(len(STRIDES), CODES),
        }.items():
            self.register_buffer(name, tensor)

    def encode(self, samples):
        frames = F.pad(samples, (WINDOW - HOP, 0)).unfold(1, WINDOW, HOP)
        with torch.no_grad():
            spectra = torch.fft.rfft(frames[..., WINDOW // 2:] * torch.hann_window(WINDOW // 2))
            levels = 0.25 * (torch.log(spectra.abs().square() @ self.gather + 1e-9) + 8)
        x = self.analysis(frames) + self.levels(levels)
        for block in self.encoder:
            x = block(x)
        return F.layer_norm(x, (DIM,))

    def quantize(self, x, keep):
        batch, frames, _ = x.shape
        total, commitment, diversity, chosen_by = 0.0, 0.0, 0.0, []
        for i, stride in enumerate(STRIDES):
            vectors = self.down[i](x.reshape(batch, frames // stride, DIM * stride))
            codes, flat = self.codes[i], vectors.detach().reshape(-1, WIDTH)
            index = (flat @ codes.T - 0.5 * codes.square().sum(1)).argmax(1)
            chosen = codes[index].reshape(vectors.shape)
            commitment = commitment + (vectors - chosen).square().sum(-1).mean()
            some = vectors.reshape(-1, WIDTH)[:: max(1, flat.shape[0] // 256)]
            scores = some @ codes.T - 0.5 * codes.square().sum(1)
            mean = torch.softmax(8 * scores, 1).mean(0)
            diversity = diversity + 1 + (mean * (mean + 1e-9).log()).sum() / math.log(CODES)
            part = self.up[i](vectors + (chosen - vectors).detach()).reshape(x.shape)
            x = x - part.detach()
            total = total + part * keep[:, i, None, None]
            chosen_by.append((index, flat))
        return total, commitment, diversity / len(STRIDES), chosen_by

    @torch.no_grad()
    def move_codes(self, chosen_by):
        for i, (index, vectors) in enumerate(chosen_by):
            count = torch.zeros(CODES).index_add_(0, index, torch.ones(len(index)))
            sums = torch.zeros(CODES, WIDTH).index_add_(0, index, vectors)
            self.usage[i].lerp_(count, 0.02)
            self.sums[i].lerp_(sums, 0.02)
            self.codes[i] = self.sums[i] / self.usage[i].clamp_min(1e-3)[:, None]

    def describe(self, x):
        x = self.input(x)
        for block in self.decoder:
            x = block(x)
        return self.head(F.layer_norm(x, (DIM,)))

    def synthesize(self, head):
        batch, frames, _ = head.shape
        own, bands, re, im, voicing = head.split([LEARNED, BANDS, LEARNED, LEARNED, VOICES], -1)
        gain = own.clamp_max(6).exp() / (re.square() + im.square() + 1e-4).sqrt()
        low = torch.complex(gain * re, gain * im)
        with torch.no_grad():
            sound = torch.fft.irfft(F.pad(low, (0, WINDOW // 4 + 1 - LEARNED)), WINDOW // 2).abs()
            excitation = torch.fft.rfft(sound)[..., LEARNED:LEARNED + EXCITED]
            excitation = excitation / (excitation.abs().mean(-1, keepdim=True) + 1e-6)
        noise = torch.complex(self.noise[0], self.noise[1])[:frames, LEARNED:].expand(batch, -1, -1)
        voiced = torch.sigmoid(voicing @ self.voices)
        rest = (1 - voiced.square()).sqrt()
        mixed = voiced * excitation + rest * noise[..., :EXCITED]
        high = torch.cat([mixed, noise[..., EXCITED:]], -1) * (bands @ self.expand).clamp_max(6).exp()
        y = torch.fft.irfft(torch.cat([low, high], -1), WINDOW) * torch.hann_window(WINDOW)
        length = (frames + WINDOW // HOP - 1) * HOP
        y = F.fold(y.transpose(1, 2), (1, length), (1, WINDOW), stride=(1, HOP))
        return y.reshape(batch, length)[:, WINDOW - HOP:]


def compressed(spectrum):
    power = spectrum.real.square() + spectrum.imag.square() + 1e-9
    return spectrum * power.pow(-0.25)


def spectral(x, y, turn, banks):
    loss = 0.0
    for window, bands, whole in turn:
        shape = torch.hann_window(window)
        hop = window // 4 if window > 64 else window // 2
        stft = lambda s: torch.stft(s, window, hop, window=shape, center=False, return_complex=True).transpose(1, 2)
        a, b = stft(x), stft(y)
        mel = lambda s: ((s.real.square() + s.imag.square() + 1e-14).sqrt() @ banks[window]).clamp_min(1e-5).log10()
        loss = loss + (mel(a) - mel(b)).abs().mean()
        if whole:
            top = int(COMPLEX_TOP * window / RATE) + 1
            a, b = (compressed(s[..., :top] / shape.sum()) for s in (a, b))
            size = b.abs().mean().clamp_min(1e-3)
            loss = loss + 0.55 * ((a - b).abs().square() + 1e-9).sqrt().mean() / size
    return loss


def envelope(head, samples, network, groups):
    frames = F.pad(samples, (WINDOW - HOP, 0)).unfold(1, WINDOW, HOP) * torch.hann_window(WINDOW)
    wanted = torch.fft.rfft(frames)[..., LEARNED:].abs().square() @ network.expand.T + 1e-9
    found = (2 * head[..., LEARNED:LEARNED + BANDS].clamp_max(6) - 0.7).exp() + 1e-9
    loss = (found.log() - wanted.log()).abs().mean()
    for group, length in zip(groups, (4, 8)):
        mean = lambda e: F.avg_pool1d((e @ group).transpose(1, 2), length, 1)
        loss = loss + (mean(found).log() - mean(wanted).log()).abs().mean()
    return loss


def torch_seconds(batch, threads, steps):
    torch.manual_seed(1)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    network = Network()
    banks = {w: torch.rand(w // 2 + 1, bands) / w for turn in TURNS for w, bands, _ in turn}
    groups = [torch.rand(BANDS, n) / BANDS for n in (56, 28)]
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, (0.8, 0.99), foreach=True)
    average = [p.detach().clone() for p in network.parameters()]
    taken = []
    for step in range(steps):
        samples = 0.1 * torch.randn(batch, RATE)
        begun = time.perf_counter()
        keep = torch.ones(batch, len(STRIDES))
        total, commitment, diversity, chosen_by = network.quantize(network.encode(samples), keep)
        head = network.describe(total)
        decoded = network.synthesize(head)
        whole = RATE - (WINDOW - HOP)
        loss = spectral(decoded[:, :whole], samples[:, :whole], TURNS[step % len(TURNS)], banks)
        loss = loss + 5 * envelope(head, samples, network, groups) + 0.25 * commitment + 0.3 * diversity
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        network.move_codes(chosen_by)
        with torch.no_grad():
            torch._foreach_lerp_(average, list(network.parameters()), 0.002)
        taken.append(time.perf_counter() - begun)
    # Whole rounds of the turns, after a first one.
    rounds = taken[len(TURNS):]
    return sum(rounds) / len(rounds)


def tessera_seconds(folder, batch, threads, steps):
    root = pathlib.Path(__file__).resolve().parents[2]

    def wall(count):
        with tempfile.TemporaryDirectory() as out:
            config = pathlib.Path(out, "config.json")
            loss = {"complex": 0.55, "complex_top": COMPLEX_TOP}
            config.write_text(json.dumps({"batch": batch, "loss": loss}))
            # A trained model to begin with has codes in use from the first step.
            command = [root / "target/release/tessera", "train", folder, "--out", f"{out}/run"]
            command += ["--config", config, "--init", root / "models/tessera-48k", "--steps", str(count)]
            environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
            begun = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            return time.perf_counter() - begun

    # What does not belong to the steps is in both, and so is a first round of the turns.
    first = len(TURNS)
    return (wall(first + steps) - wall(first)) / steps


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=root / "assets/demo")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of six steps, after one that does not count")
    given = parser.parse_args()
    steps = given.rounds * len(TURNS)
    theirs = torch_seconds(given.batch, given.threads, steps + len(TURNS))
    ours = tessera_seconds(given.folder, given.batch, given.threads, steps)
    print(f"a step of {given.batch} x 1 s on {given.threads} threads: PyTorch {torch.__version__} {theirs:.3f} s, "
          f"tessera {ours:.3f} s, {ours / theirs:.2f} times as long")


if __name__ == "__main__":
    main()
