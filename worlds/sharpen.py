"""Avatar-SD's last stage on frames: the denoiser learns from a critic what renderings look like.

Trained on squared errors alone the model draws the mean of all the pictures that its skeleton and
its prompt leave open, or that it is too small to tell apart: smooth heads without faces, garments
without their stripes. Here its predicted clean latents are also judged by a critic, which learns at
the same time to tell them from rendered ones:

    x^     = clean latents that the denoiser predicts from a state of its own sampling
    L_D    = mean softplus(D(x^) - D(x))
    L_G    = ||x^ - x||^2 + r (mean softplus(D(x) - D(x^)) + w sum_k |f_k(x^) - f_k(x)|)

f_k are the critic's features, and r scales the second part so that its gradient on x^ is as long
as ``CRITIC_SHARE`` times the first part's.

D sees patches, with the skeleton and the prompt, and the means are taken where the figure is. Of a
rendered and a drawn picture of the same scene it has to tell which is which, place by place: nine
tenths are background, which both draw alike, and a critic that had to call every place real or
drawn (hinge loss) had learnt next to nothing of the figure after 160 steps. That one was a copy of
the ControlNet, which also took four times as long.

Sources: Sauer et al. 2023, Adversarial Diffusion Distillation (arXiv 2311.17042): a few-step
student judged on its predicted clean pictures; Isola et al. 2017, pix2pix (arXiv 1611.07004),
section 3.2: a critic of patches that knows the condition; Jolicoeur-Martineau 2018 (arXiv
1807.00734), equations 5 and 6: the relativistic loss of pairs; Wang et al. 2018, pix2pixHD (arXiv
1711.11585), equation 4: matching the critic's features; Esser et al. 2021, VQGAN (arXiv
2012.09841), equation 7: the weight by gradients, there on the last layer.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import MotionAdapter
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from pipelines.paths import ASSETS
from worlds.autoencoder import load_autoencoder
from worlds.data import HELD_OUT_SEED, build
from worlds.denoiser import (
    DROP,
    Denoiser,
    encode_poses,
    encode_set,
    figure_weights,
    load_weights,
    own_states,
    poses_embedded,
    write_sheet,
)
from worlds.export import read_records, save_avatar_sd, training_record, write_records
from worlds.loop import TrainingLoop

CRITIC_SHARE = 5.0
"""Length of the critic's gradient on the predicted latents, in lengths of the squared error's."""
CRITIC_WARMUP = 100
"""Steps over which that share grows from nothing, while the critic knows nothing yet."""
MATCHING_WEIGHT = 1.0
"""Of the matched features, against the critic's verdict."""
CRITIC_TIMES = 100
"""Noisiest time, of 1000, at which the critic sees latents; the noise hides what is too fine."""
CRITIC_WIDTH = 64
CRITIC_RATE = 20.0
"""The critic's learning rate in units of the denoiser's. With one for both the denoiser outran it:
after 100 steps the critic still told nothing apart."""
JUDGED_SHARE = 0.875
"""Share of a batch that starts from own states and is judged; the rest is trained as before."""

Maps = list[torch.Tensor]


class Critic(nn.Module):
    """Tells rendered latents from drawn ones, patch by patch, at 32, 16 and 8 places a side.

    Args:
        latent_channels: of the latents.
        pose_channels: of the embedded skeletons.
        text_width: of the pooled text state.
        width: channels at 32 places a side; twice and four times as many below.
    """

    def __init__(
        self, latent_channels: int, pose_channels: int, text_width: int, width: int = CRITIC_WIDTH
    ) -> None:
        super().__init__()
        self.words = nn.Linear(text_width, width)
        self.first = nn.Conv2d(latent_channels + pose_channels, width, 3, padding=1)
        widths = (width, 2 * width, 4 * width)
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(w, w, 3, padding=1),
                nn.LeakyReLU(0.2),
            )
            for w in widths
        )
        self.halve = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, 2 * w, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
            for w in widths[:-1]
        )
        self.heads = nn.ModuleList(nn.Conv2d(w, 1, 1) for w in widths)

    def forward(
        self, latents: torch.Tensor, words: torch.Tensor, poses: torch.Tensor
    ) -> tuple[Maps, Maps]:
        """Judge latents.

        Args:
            latents: [B, 8, 32, 32].
            words: pooled text states, [B, text_width].
            poses: embedded skeletons, [B, pose_channels, 32, 32].

        Returns:
            A verdict [B, 1, h, w] for each scale, the higher the more it looks rendered, and the
            features [B, c, h, w] that it was read from.
        """
        hidden = self.first(torch.cat([latents, poses], 1)) + self.words(words)[..., None, None]
        hidden = F.leaky_relu(hidden, 0.2)
        features = []
        for number, level in enumerate(self.levels):
            features.append(level(hidden))
            if number < len(self.halve):
                hidden = self.halve[number](features[-1])
        return [head(f).float() for head, f in zip(self.heads, features, strict=True)], features


class Game(nn.Module):
    """Denoiser and critic, so that one loop trains and saves both."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.critic = Critic(
            denoiser.unet.config.in_channels,
            denoiser.controlnet.controlnet_cond_embedding.conv_out.out_channels,
            denoiser.text_encoder.config.hidden_size,
        )


def on_figure(maps: Maps, figure: torch.Tensor) -> torch.Tensor:
    """Mean of maps [B, c, h, w] over the places that see the figure, and over the maps.

    Args:
        maps: one for each scale.
        figure: 1 where the figure is, else 0; [B, 1, H, W] of any size.
    """
    means = []
    for each in maps:
        where = F.adaptive_max_pool2d(figure, each.shape[-2:]).expand_as(each)
        means.append((each * where).sum() / where.sum().clamp(min=1))
    return torch.stack(means).mean()


def preferred(one: Maps, other: Maps, figure: torch.Tensor) -> torch.Tensor:
    """Loss of the wish that every verdict on ``one`` be above that on ``other`` at its place."""
    return on_figure([F.softplus(b - a) for a, b in zip(one, other, strict=True)], figure)


def matched(drawn: Maps, real: Maps, figure: torch.Tensor) -> torch.Tensor:
    """Distance of features on the figure, in units of the real ones' spread."""
    return on_figure(
        [
            (d.float() - r.float()).abs() / r.float().std().clamp(min=1e-3)
            for d, r in zip(drawn, real, strict=True)
        ],
        figure,
    )


def joined_gradient(errors: torch.Tensor, verdict: torch.Tensor, share: float) -> torch.Tensor:
    """Add the critic's gradient to the squared error's, at ``share`` times its length.

    Args:
        errors: gradient of the squared error on the predicted latents.
        verdict: gradient of `judged_loss` on the same.
        share: wanted length of the second in lengths of the first.
    """
    return errors + share * errors.norm() / verdict.norm().clamp(min=1e-12) * verdict


def train(args: argparse.Namespace, work: Path) -> None:
    """Train for ``args.max_minutes`` from the exported weights and export again."""
    torch.manual_seed(args.seed)
    rng = np.random.default_rng([args.seed, int(args.resume), 3])
    data = build(work / "data/frames", args.frames)
    held_out = build(work / "data/frames-heldout", 600, seed=HELD_OUT_SEED)
    folder = ASSETS / "avatar-sd"
    vae, _ = load_autoencoder(work)
    latents = encode_set(vae, data)
    denoiser = Denoiser(CLIPTokenizer.from_pretrained(folder / "tokenizer"))
    load_weights(denoiser, folder)
    denoiser.text_encoder.requires_grad_(False)
    denoiser.controlnet.requires_grad_(False)
    embedded = encode_poses(denoiser.controlnet, data)
    game, scheduler = Game(denoiser), denoiser.scheduler
    critic = game.critic
    loop = TrainingLoop(
        game,
        work / "sharpen",
        args.max_minutes,
        args.learning_rate or 1e-4,
        args.resume,
        betas=(0.5, 0.99),
        rates={"critic": CRITIC_RATE},
        warmup=20,
    )
    batch = args.batch or 16
    judged = round(batch * JUDGED_SHARE)
    for step in loop:
        index = rng.integers(len(data), size=batch)
        x = torch.from_numpy(latents[index].astype(np.float32)) * vae.config.scaling_factor
        dropped = (rng.random((2, batch)) < DROP) & (np.arange(batch) >= judged)
        captions = [
            "" if d else data.meta[i]["caption"] for i, d in zip(index, dropped[0], strict=True)
        ]
        has_pose = torch.from_numpy(~dropped[1]).float()
        tokens = denoiser.tokens(captions)
        poses = torch.from_numpy(embedded[index].astype(np.float32))
        noise, t = torch.randn_like(x), torch.randint(1000, (batch,))
        states = scheduler.add_noise(x, noise, t)
        weight = figure_weights(data, index)
        figure = torch.from_numpy(np.stack([data.mask(i) for i in index[:judged]])).float()[:, None]
        with poses_embedded(denoiser.controlnet):
            # An autocast of its own: weights that it casts without gradients stay without them.
            with loop.accelerator.autocast():
                states[:judged], t[:judged] = own_states(
                    denoiser, noise[:judged], tokens[:judged], poses[:judged]
                )
            with loop.accelerator.autocast():
                predicted = denoiser(states, t, tokens, poses, has_pose).float()
        alphas = scheduler.alphas_cumprod[t[:judged]].view(-1, 1, 1, 1)
        drawn = alphas.sqrt() * states[:judged] - (1 - alphas).sqrt() * predicted[:judged]
        velocity = scheduler.get_velocity(x[judged:], noise[judged:], t[judged:])
        as_before = (weight[judged:] * (predicted[judged:] - velocity).square()).sum()

        real, text = x[:judged], denoiser.text_encoder(tokens[:judged]).pooler_output
        sees = poses[:judged]
        noised = partial(
            scheduler.add_noise,
            noise=torch.randn_like(real),
            timesteps=torch.randint(CRITIC_TIMES, (judged,)),
        )
        with loop.accelerator.autocast():
            of_real, features = critic(noised(real), text, sees)
            of_drawn, _ = critic(noised(drawn.detach()), text, sees)
        telling = preferred(of_real, of_drawn, figure)

        trial = drawn.detach().requires_grad_()
        critic.requires_grad_(False)
        with loop.accelerator.autocast():
            opinion, traits = critic(noised(trial), text, sees)
        wished = preferred(opinion, [v.detach() for v in of_real], figure)
        matching = matched(traits, [f.detach() for f in features], figure)
        (verdict,) = torch.autograd.grad(wished + MATCHING_WEIGHT * matching, trial)
        critic.requires_grad_(True)
        errors = 2 * weight[:judged] * (drawn.detach() - real) / x.numel()
        share = CRITIC_SHARE * min(1.0, step / CRITIC_WARMUP)
        pull = (joined_gradient(errors, verdict, share) * drawn).sum()
        loop.backward(pull + as_before / x.numel() + telling)
        if step % 20 == 0:
            error = (weight[:judged] * (drawn.detach() - real).square()).mean()
            print(
                f"step {step} {loop.seconds / 60:.1f} min error {error:.4f} "
                f"critic {telling.detach():.3f} judged {wished.detach():.3f} "
                f"matching {matching.detach():.3f}",
                flush=True,
            )
        if step and step % 200 == 0:
            with loop.averaged():
                write_sheet(denoiser, vae, held_out, loop.folder / f"sheet-{step}.png")
    with loop.averaged():
        save_avatar_sd(
            folder,
            vae,
            denoiser.text_encoder,
            denoiser.tokenizer,
            denoiser.unet,
            denoiser.scheduler,
            denoiser.controlnet,
            MotionAdapter.from_pretrained(folder / "motion_adapter"),
        )
    record = training_record("sharpen", args.seed, loop.step, loop.seconds)
    write_records(folder, [*read_records(folder), record])
