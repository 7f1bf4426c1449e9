"""Avatar-SD's denoiser: CLIP text encoder, UNet and pose ControlNet, trained together on frames.

v-prediction (Salimans and Ho 2022) on the autoencoder's latents with zero terminal SNR (Lin et al.
2024). Text and pose are each dropped in a tenth of the noised pictures, so that guidance and
prompts without a pose work.
The ControlNet's output projections start at fan-in noise, not at zero as for fine-tuning: trained
from nothing with zeros, the pose was still ignored after 34,000 frames.

Three passes in four are trained on states that the model's own sampling reaches (`chain`), half of
them at the product's times, the rest at others (`chain_times`): skeleton and caption all but settle
the picture, so what a sampler's later steps see is not the truth with noise on it but the model's
own former guess, and it must learn to correct that.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    MotionAdapter,
    Transformer2DModel,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipelines.device import autocast, device, plain_attention
from pipelines.paths import ASSETS
from pipelines.profiles import AnimationSpec, get_profile
from pipelines.solver import solver_for
from worlds.autoencoder import LATENT_CHANNELS, load_autoencoder, to_images, to_tensor
from worlds.data import HELD_OUT_SEED, AvatarSet, build
from worlds.export import read_records, save_avatar_sd, training_record, write_records
from worlds.looks import caption, random_look
from worlds.loop import TrainingLoop
from worlds.motions import MOTIONS

TEXT_WIDTH = 256
MAX_TOKENS = 64
CHANNELS = (48, 96, 192, 256)
GRID = 32
DROP = 0.1
FIGURE_WEIGHT = 3.0
FIGURE_SHARE = 0.16
"""Share of the latents that a figure of middling size covers."""
CHAIN = get_profile("embedded").animation.times
"""Times of the product's passes, noisiest first."""
CHAIN_SHARE = 0.75
"""Share of a step's passes that belong to chains; the others see noised pictures."""


def new_tokenizer() -> CLIPTokenizer:
    """Train a CLIP tokenizer on captions, so that every word of the vocabulary is one token."""
    rng = random.Random(0)
    corpus = [
        caption(random_look(rng), motion.verb, closeup=rng.random() < 0.2)
        for motion in MOTIONS.values()
        for _ in range(100)
    ]
    return CLIPTokenizer(model_max_length=MAX_TOKENS).train_new_from_iterator(
        corpus, vocab_size=4000, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )


def new_scheduler() -> DDIMScheduler:
    """The noise schedule: Stable Diffusion's betas, rescaled to zero terminal SNR."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )


class Denoiser(nn.Module):
    """Text encoder, UNet and ControlNet as one trainable module.

    Attributes:
        tokenizer: Shared by all; not trained.
        scheduler: Its alphas are used to noise the latents.
    """

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        channels: tuple[int, ...] = CHANNELS,
        latent_channels: int = LATENT_CHANNELS,
        width: int = TEXT_WIDTH,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.scheduler = new_scheduler()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=MAX_TOKENS,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                projection_dim=width,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=GRID,
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=channels,
            layers_per_block=1,
            cross_attention_dim=width,
            down_block_types=("CrossAttnDownBlock2D",) * len(channels),
            up_block_types=("CrossAttnUpBlock2D",) * len(channels),
            # diffusers reads this as the number of heads, whatever its name says.
            attention_head_dim=tuple(max(1, c // 32) for c in channels),
            norm_num_groups=16,
        )
        self.controlnet = ControlNetModel.from_unet(
            self.unet,
            conditioning_channels=3,
            load_weights_from_unet=False,
            conditioning_embedding_out_channels=(8, 16, 48, 96),
        )
        for layer in (
            *self.controlnet.controlnet_down_blocks,
            self.controlnet.controlnet_mid_block,
        ):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        self._wake_embedding()
        plain_attention(self.unet, self.controlnet)
        self.text_encoder.set_attn_implementation("eager")

    @torch.no_grad()
    def _wake_embedding(self) -> None:
        """Scale the skeleton's embedding to unit variance on random sticks.

        Eight convolutions at torch's default gain would pass on a ten-thousandth of the skeleton.
        Source: layer-sequential unit variance, Mishkin and Matas 2016, for the last layer only.
        """
        embedding = self.controlnet.controlnet_cond_embedding
        for layer in embedding.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        sticks = np.zeros((2, 256, 256, 3), np.uint8)
        ends = np.random.default_rng(0).integers(40, 216, (2, 16, 4)).tolist()
        for canvas, lines in zip(sticks, ends, strict=True):
            for k, (x0, y0, x1, y1) in enumerate(lines):
                cv2.line(canvas, (x0, y0), (x1, y1), [255 * (k >> i & 1) for i in range(3)], 4)
        out = embedding(torch.from_numpy(sticks).permute(0, 3, 1, 2).float() / 255)
        embedding.conv_out.weight.div_(out.std())

    def tokens(self, captions: list[str]) -> torch.Tensor:
        """Token numbers [B, MAX_TOKENS] of captions, where the module is."""
        return self.tokenizer(
            captions,
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        ).input_ids.to(self.unet.device)

    def forward(
        self,
        noisy: torch.Tensor,
        t: torch.Tensor,
        tokens: torch.Tensor,
        pose: torch.Tensor,
        has_pose: torch.Tensor,
    ) -> torch.Tensor:
        """Predict v.

        Args:
            noisy: Latents at time ``t``, [B, 8, 32, 32].
            t: Time steps, [B].
            tokens: [B, MAX_TOKENS].
            pose: Skeleton pictures in 0..1, [B, 3, 256, 256].
            has_pose: [B] 1 where the ControlNet speaks, 0 where it is silent.
        """
        text = self.text_encoder(tokens).last_hidden_state
        down, mid = self.controlnet(noisy, t, text, pose, return_dict=False)
        gate = has_pose.view(-1, 1, 1, 1)
        return self.unet(
            noisy,
            t,
            text,
            down_block_additional_residuals=[d * gate for d in down],
            mid_block_additional_residual=mid * gate,
        ).sample


def noisy_first(count: int, done: float) -> torch.Tensor:
    """Draw times [count] from 0..999: mostly noisy ones at first, all alike at the end.

    What the prompt says of colours and what the skeleton says of limbs is decided at the noisiest
    fifth of the times: shuffling the captions of a half-trained model raised the figure's error
    from 0.66 to 0.85 at t = 990 and from 0.353 to 0.362 at t = 400. Drawn evenly, four in five
    pictures teach next to nothing of it.

    Args:
        count: how many.
        done: share of the training that is done, 0..1; the density of t is t^(2 (1 - done)).
    """
    return (1000 * torch.rand(count) ** (1 / (3 - 2 * done))).long().clamp(max=999)


def split(passes: int) -> tuple[int, int]:
    """How many pictures of a step go through a chain, and how many are noised, for so many passes.

    Raises:
        ValueError: too few passes for one of each.
    """
    chained = max(1, int(passes * CHAIN_SHARE / len(CHAIN)))
    noised = passes - chained * len(CHAIN)
    if noised < 1:
        raise ValueError(f"batch must be at least {len(CHAIN) + 1} passes, got {passes}")
    return chained, noised


def chain_times() -> tuple[int, ...]:
    """Draw the times of a chain: the product's every second time, else two others after its first.

    Trained at the product's times alone, the model drew them well and was lost between them: what
    fifty even steps drew was 27.2 dB from the product's, after 31.6 dB before that training.
    """
    if torch.rand(()) < 0.5:
        return CHAIN
    later = 1 + torch.randperm(CHAIN[0] - 1)[: len(CHAIN) - 1]
    return CHAIN[0], *sorted(later.tolist(), reverse=True)


def chain(
    denoiser: nn.Module,
    noise: torch.Tensor,
    words: torch.Tensor,
    poses: torch.Tensor,
    times: Sequence[int],
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Sample by DDIM without guidance at few times; every pass is trained on its own.

    Trained on noised pictures alone, a model learns at the less noisy times to read the picture
    from its input, and at sampling reads its own errors there: one step from pure noise was 25.2 dB
    from the rendering, eight steps 24.1 dB. Trained on what it reaches itself, it goes on looking
    at the pose and the prompt, and every further step is a correction. From the second time on the
    noise is fainter than the error of the guess before, so a pass sees what the former one drew.
    No gradient goes from a pass to the one before, as between the updates of RAFT (Teed and Deng
    2020, arXiv 2003.12039). Source: Ross et al. 2011, DAgger (arXiv 1011.0686); exposure bias of
    diffusion models: Ning et al. 2023 (arXiv 2301.11706).

    Args:
        denoiser: a `Denoiser`, or a `worlds.motion.ClipDenoiser`; as all next arguments go by.
        noise: the state at the first time, [B, 8, 32, 32], or [B, 8, F, 32, 32] for clips.
        words: tokens [B, MAX_TOKENS], or text states for clips.
        poses: what the ControlNet takes, a row for each frame.
        times: noise times, falling.

    Yields:
        For every time: the states in float32, without gradients; the time [B]; the velocity
        predicted from them, with gradients.
    """
    alphas = denoiser.scheduler.alphas_cumprod
    states, count = noise, len(noise)
    for t, after in zip(times, (*times[1:], None), strict=True):
        moment = torch.full((count,), t, device=noise.device)
        on = torch.ones(count, device=noise.device)
        predicted = denoiser(states, moment, words, poses, on)
        yield states, moment, predicted
        if after is not None:
            v, a, b = predicted.detach().float(), alphas[t], alphas[after]
            clean = a.sqrt() * states - (1 - a).sqrt() * v
            rest = (1 - a).sqrt() * states + a.sqrt() * v
            states = b.sqrt() * clean + (1 - b).sqrt() * rest


def denoising_loss(
    scheduler: DDIMScheduler,
    latents: torch.Tensor,
    predicted: torch.Tensor,
    states: torch.Tensor,
    noise: torch.Tensor,
    t: torch.Tensor,
    weight: torch.Tensor,
    own: int,
) -> torch.Tensor:
    """Loss of a batch whose first states are the model's own, and the rest noised latents.

    That of noised latents is the weighted squared error of the velocity, mean over the batch. All
    times weigh the same. Min-SNR weights (Hang et al. 2023) were tried for 40,000 frames and are
    wrong here: they all but silence the noisiest times, where colours and limbs are decided, and
    the figures stayed patches of random colour.

    That of the model's own states is the error of the predicted clean latents. The velocity's is
    the same divided by the noise's variance: right where the input holds the truth, too much where
    it does not.

    Args:
        scheduler: its alphas belong to ``t``.
        latents: clean latents, [B, ...].
        predicted: predicted v, same shape.
        states: what it was predicted from, same shape.
        noise: the noise in the states that are not the model's own, same shape.
        t: time steps, [B].
        weight: of every latent, [B, ...]; anything that broadcasts to ``latents``.
        own: how many of the states are the model's own.
    """
    alphas = scheduler.alphas_cumprod.to(t.device)[t[:own]].view(-1, *[1] * (latents.ndim - 1))
    clean = alphas.sqrt() * states[:own] - (1 - alphas).sqrt() * predicted[:own].float()
    velocity = scheduler.get_velocity(latents[own:], noise[own:], t[own:])
    errors = torch.cat([clean - latents[:own], predicted[own:].float() - velocity])
    return (weight * errors.square()).mean()


def figure_weights(data: AvatarSet, index: np.ndarray) -> torch.Tensor:
    """Loss weights [B, 1, 32, 32] of mean 1: the figure's latents weigh more, its head's most.

    Everything a prompt or a pose asks for is on the figure: its latents add `FIGURE_WEIGHT` - 1 to
    the weight of the rest. Prompts are obeyed by the picture, not by the pixel, so those of a small
    figure weigh more than those of a large one, by the root of the ratio of their areas. The head
    counts twice: skin, hair, hat and glasses are asked of a hundredth of the picture.
    """
    masks = torch.from_numpy(np.stack([data.mask(i) for i in index])).float()[:, None]
    figure = F.adaptive_max_pool2d(masks, GRID)
    size = (FIGURE_SHARE / figure.mean((1, 2, 3), keepdim=True).clamp(min=0.01)).sqrt()
    weights = 1 + (FIGURE_WEIGHT - 1) * figure * size * (1 + heads(data.keypoints[index]))
    return weights / weights.mean()


def heads(keypoints: np.ndarray) -> torch.Tensor:
    """Latents [B, 1, 32, 32] that see a head, 1 or 0: a disc about the face that reaches the neck.

    Args:
        keypoints: COCO-18 joints [B, 18, 3] in pixels of 256.
    """
    faces = keypoints[:, [0, 14, 15, 16, 17], :2].mean(1)
    radius = np.linalg.norm(faces - keypoints[:, 1, :2], axis=1)
    cells = (np.mgrid[:GRID, :GRID][::-1].transpose(1, 2, 0) + 0.5) * 256 / GRID
    away = np.linalg.norm(cells - faces[:, None, None], axis=-1)
    return torch.from_numpy(away <= radius[:, None, None]).float()[:, None]


def passes_loss(
    scheduler: DDIMScheduler,
    latents: torch.Tensor,
    noise: torch.Tensor,
    weight: torch.Tensor,
    chained: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    noised: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Loss of all passes of a step, each as heavy as any other; see `denoising_loss`.

    Args:
        scheduler: of the model.
        latents: clean latents [B, ...], those of the chains first.
        noise: same shape.
        weight: of every latent, [B, ...].
        chained: the passes of `chain`.
        noised: states, times and predicted velocities of the others.
    """
    count = len(chained[0][1])
    rows = np.r_[np.tile(np.arange(count), len(chained)), np.arange(count, len(latents))]
    states, t, predicted = (torch.cat(parts) for parts in zip(*chained, noised, strict=True))
    return denoising_loss(
        scheduler, latents[rows], predicted, states, noise[rows], t, weight[rows],
        own=count * len(chained),
    )  # fmt: skip


def detail_shares(data: AvatarSet) -> np.ndarray:
    """How often each picture is drawn [N], sum 1: the more fine details, the more often.

    A picture without any has weight 1; pattern, prop, glasses and a drawing style add 1 each. They
    are what was learnt last: with pictures drawn evenly, 27 of 34 glasses, 24 of 27 dotted tops, 10
    of 11 balls and 13 of 14 pictures of pixel art were still drawn without, when colours, hats and
    garments were right in 19 of 20.
    """
    looks = [row["look"] for row in data.meta]
    weights = np.array(
        [
            1
            + (look["pattern"] != "plain")
            + (look["prop"] != "none")
            + look["glasses"]
            + (look["style"] != "3d")
            for look in looks
        ],
        float,
    )
    return weights / weights.sum()


@contextmanager
def poses_embedded(controlnet: ControlNetModel) -> Iterator[None]:
    """Within, the ControlNet takes what ``encode_poses`` returns instead of skeleton pictures."""
    embedding = controlnet.controlnet_cond_embedding
    controlnet.controlnet_cond_embedding = nn.Identity()
    try:
        yield
    finally:
        controlnet.controlnet_cond_embedding = embedding


def pose_pixels(poses: np.ndarray) -> torch.Tensor:
    """Skeleton pictures uint8 [B, 256, 256, 3] as the ControlNet takes them, float in 0..1."""
    return torch.from_numpy(poses).permute(0, 3, 1, 2).float() / 255


def _fingerprint(layer: nn.Conv2d) -> str:
    weights = layer.weight.detach().half().cpu().numpy().tobytes()
    return hashlib.sha256(weights).hexdigest()[:12]


def _keep(path: Path, array: np.ndarray) -> None:
    """Write an .npy file; a kill on the way leaves nothing under its name."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


@torch.no_grad()
def encode_poses(controlnet: ControlNetModel, data: AvatarSet, batch: int = 16) -> np.ndarray:
    """Embed the skeletons of a set once; float16 [N, 48, 32, 32], cached like latents.

    Run at 256 px for every picture of every step, the embedding took as long as all other layers.
    """
    embedding, where = controlnet.controlnet_cond_embedding, controlnet.device
    path = data.folder / f"poses-{_fingerprint(embedding.conv_out)}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")
    embedded = np.empty((len(data), embedding.conv_out.out_channels, GRID, GRID), np.float16)
    for i in range(0, len(data), batch):
        rows = range(i, min(i + batch, len(data)))
        pictures = np.stack([data.condition(k) for k in rows])
        with autocast(where):
            out = embedding(pose_pixels(pictures).to(where))
        embedded[i : i + batch] = out.float().cpu().numpy()
        if i % (batch * 50) == 0:
            print(f"embedded {i} of {len(data)} skeletons", flush=True)
    _keep(path, embedded)
    return embedded


@torch.no_grad()
def encode_set(vae: AutoencoderKL, data: AvatarSet, batch: int = 16) -> np.ndarray:
    """Encode a set once; latents (unscaled posterior means) float16 [N, 8, 32, 32], cached.

    The cache is named after the encoder's weights, so that another encoder never meets it.
    """
    path = data.folder / f"latents-{_fingerprint(vae.encoder.conv_out)}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")
    latents = np.empty((len(data), vae.config.latent_channels, GRID, GRID), np.float16)
    for i in range(0, len(data), batch):
        x = to_tensor(data.images[i : i + batch]).to(vae.device)
        with autocast(vae.device):
            latents[i : i + batch] = vae.encode(x).latent_dist.mode().float().cpu().numpy()
        if i % (batch * 50) == 0:
            print(f"encoded {i} of {len(data)}", flush=True)
    _keep(path, latents)
    return latents


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    captions: list[str],
    poses: np.ndarray,
    spec: AnimationSpec,
    seed: int = 0,
) -> torch.Tensor:
    """Draw scaled latents [B, 8, 32, 32] as the product does, but for the motion modules.

    Args:
        denoiser: The model.
        captions: B prompts.
        poses: uint8 [B, 256, 256, 3] skeleton pictures.
        spec: Of the profile; steps, solver and guidance are taken.
        seed: Of the initial noise.
    """
    count, guidance, where = len(captions), spec.guidance_scale, denoiser.unet.device
    solver = solver_for(denoiser.scheduler, spec, spec.steps)
    x = torch.randn(
        count, LATENT_CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(seed)
    ).to(where)
    tokens, sides = denoiser.tokens(captions), 1
    if guidance > 1:
        tokens, sides = torch.cat([denoiser.tokens([""] * count), tokens]), 2
    with autocast(where):
        pose = denoiser.controlnet.controlnet_cond_embedding(pose_pixels(poses).to(where))
        pose = pose.repeat(sides, 1, 1, 1)
        with poses_embedded(denoiser.controlnet):
            for t in solver.timesteps:
                states = x.repeat(sides, 1, 1, 1)
                moments = t.to(where).expand(sides * count)
                on = torch.ones(sides * count, device=where)
                v = denoiser(states, moments, tokens, pose, on).float()
                if guidance > 1:
                    v = v[:count] + guidance * (v[count:] - v[:count])
                x = solver.step(v, t, x).prev_sample
    return x


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor) -> np.ndarray:
    """Scaled latents to pictures, uint8 [B, 256, 256, 3]."""
    with autocast(vae.device):
        latents = latents.to(vae.device) / vae.config.scaling_factor
        return to_images(vae.decode(latents).sample)


def write_sheet(denoiser: Denoiser, vae: AutoencoderKL, held_out: AvatarSet, path: Path) -> None:
    """Write six held-out figures and two close-ups: as rendered, and below as the product draws."""
    product = get_profile("embedded").animation
    near = [bool(row["closeup"]) for row in held_out.meta[:64]]
    show = [i for i, closeup in enumerate(near) if not closeup][:6]
    show += [i for i, closeup in enumerate(near) if closeup][:2]
    captions = [held_out.meta[i]["caption"] for i in show]
    poses = np.stack([held_out.condition(i) for i in show])
    drawn = decode(vae, sample(denoiser, captions, poses, product))
    rows = [np.concatenate([held_out.images[i] for i in show], 1), np.concatenate(list(drawn), 1)]
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])


def load_weights(denoiser: Denoiser, folder: Path) -> None:
    """Give a denoiser the weights of an export, attention layers that it lacks starting at nothing.

    Exports of before November 26, 2026 attend at 16 × 16 and below only. What is new adds to its
    input what its last projection makes; with that at zero the grown model draws as the former one
    did, and learns from there.

    Raises:
        RuntimeError: the export lacks other weights, or has some that the denoiser has no place
            for.
    """
    for name in ("unet", "controlnet", "text_encoder"):
        part = getattr(denoiser, name)
        weights = type(part).from_pretrained(folder / name).state_dict()
        for where, layer in part.named_modules():
            if isinstance(layer, Transformer2DModel) and f"{where}.proj_out.weight" not in weights:
                nn.init.zeros_(layer.proj_out.weight)
                nn.init.zeros_(layer.proj_out.bias)
                weights |= {f"{where}.{key}": value for key, value in layer.state_dict().items()}
        part.load_state_dict(weights)


def freeze_coarse(network: nn.Module, levels: int) -> None:
    """Leave the ``levels`` coarsest levels of a UNet or ControlNet out of the training.

    Raises:
        ValueError: the network has fewer levels.
    """
    if not 0 <= levels <= len(network.down_blocks):
        raise ValueError(f"freeze-coarse must be 0 to {len(network.down_blocks)}, got {levels}")
    if levels == 0:
        return
    network.mid_block.requires_grad_(False)
    network.down_blocks[-levels:].requires_grad_(False)
    if hasattr(network, "up_blocks"):  # a ControlNet has none
        network.up_blocks[:levels].requires_grad_(False)


def train(args: argparse.Namespace, work: Path) -> None:
    """Train for ``args.max_minutes`` and export to ``assets/avatar-sd``.

    ``args.freeze_poses`` leaves the skeletons' embedding as it is, which halves a step;
    ``args.freeze_coarse`` leaves that many of the coarsest levels.
    """
    torch.manual_seed(args.seed)
    data = build(work / "data/frames", args.frames)
    held_out = build(work / "data/frames-heldout", 600, seed=HELD_OUT_SEED)
    folder = ASSETS / "avatar-sd"
    vae, records = load_autoencoder(work, exported=args.from_export)
    latents = encode_set(vae, data)
    # Training a tokenizer numbers the single letters anew each time: keep the exported one.
    tokenizer = (
        CLIPTokenizer.from_pretrained(folder / "tokenizer") if args.from_export else new_tokenizer()
    )
    denoiser, motion = Denoiser(tokenizer), None
    if args.from_export:
        if (folder / "motion_adapter").exists():  # where `motion --from-export` goes on from
            motion = MotionAdapter.from_pretrained(folder / "motion_adapter")
        load_weights(denoiser, folder)
        records += [r for r in read_records(folder) if r["stage"] != "vae"]
    embedded = None
    if args.freeze_poses:
        denoiser.controlnet.controlnet_cond_embedding.requires_grad_(False)
        embedded = encode_poses(denoiser.controlnet.to(device()), data)
    for network in (denoiser.unet, denoiser.controlnet):
        freeze_coarse(network, args.freeze_coarse)
    loop = TrainingLoop(
        denoiser,
        work / "frames",
        args.max_minutes,
        args.learning_rate or 8e-4,
        args.resume,
        muon=args.muon,
    )
    rng = loop.generator(args.seed)
    chained, noised = split(args.batch or 32)
    batch = chained + noised
    shares = detail_shares(data)
    for step in loop:
        index = rng.choice(len(data), size=batch, p=shares)
        x = torch.from_numpy(latents[index].astype(np.float32)) * vae.config.scaling_factor
        dropped = (rng.random((2, batch)) < DROP) & (np.arange(batch) >= chained)
        captions = [
            "" if d else data.meta[i]["caption"] for i, d in zip(index, dropped[0], strict=True)
        ]
        has_pose = torch.from_numpy(~dropped[1]).float()[chained:].to(loop.device)
        noise, tokens = torch.randn_like(x).to(loop.device), denoiser.tokens(captions)
        x, t = x.to(loop.device), noisy_first(noised, loop.done).to(loop.device)
        states = denoiser.scheduler.add_noise(x[chained:], noise[chained:], t)
        if embedded is None:
            poses = pose_pixels(np.stack([data.condition(i) for i in index]))
            conditions = nullcontext()
        else:
            poses = torch.from_numpy(embedded[index].astype(np.float32))
            conditions = poses_embedded(denoiser.controlnet)
        poses = poses.to(loop.device)
        with conditions, loop.accelerator.autocast():
            steps = [
                *chain(
                    denoiser, noise[:chained], tokens[:chained], poses[:chained], chain_times()
                )
            ]
            predicted = denoiser(states, t, tokens[chained:], poses[chained:], has_pose)
        weight = figure_weights(data, index).to(loop.device)
        last = (states, t, predicted)
        loop.backward(passes_loss(denoiser.scheduler, x, noise, weight, steps, last))
        if step % 20 == 0:
            print(
                f"step {step} {loop.seconds / 60:.1f} min loss {loop.recent_loss():.4f}", flush=True
            )
        if step and step % 400 == 0:
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
            motion,
        )
    records.append(training_record("frames", args.seed, loop.step, loop.seconds))
    write_records(folder, records)
