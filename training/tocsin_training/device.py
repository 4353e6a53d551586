"""Where fine-tuning computes: on a GPU where the recipe allows one and there is one, else on the CPU.

On a CPU a recipe gives the same model for its seed every time. A GPU adds up in another order, takes transformers'
fused attention and mostly bf16, so its model is not the same to the bit.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from tocsin_training.config import FinetuneSettings
from tocsin_training.errors import ConfigError

_log = logging.getLogger(__name__)


def uses_gpu(options: FinetuneSettings) -> bool:
    """Whether a GPU that PyTorch has as CUDA (NVIDIA's, and AMD's by ROCm) is there and the recipe does not say `cpu`.

    Those of other kinds nobody has tried with these recipes, so beside them the CPU is taken.
    """
    return options.device == "auto" and torch.cuda.is_available()


def uses_bf16(options: FinetuneSettings) -> bool:
    """Whether products are made in bf16: as the recipe says, or where what computes has it in hardware."""
    if options.bf16 != "auto":
        return options.bf16 == "on"
    if uses_gpu(options):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return multiplies_bf16()


def multiplies_bf16(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU multiplies bf16 in hardware; where it cannot be told, no: emulated bf16 is slower than fp32."""
    try:
        flags = set(cpu_info.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def attention(options: FinetuneSettings) -> str | None:
    """transformers' name of the attention to learn with; none takes the fastest that the architecture has.

    On a CPU that is the plain kind: the fused one takes longer there, with dropout and without.
    """
    return None if uses_gpu(options) else "eager"


def describe(options: FinetuneSettings) -> str:
    """What computes, in words."""
    precision = "bf16" if uses_bf16(options) else "fp32"
    if uses_gpu(options):
        count = f"{options.processes} of " if options.processes > 1 else ""
        return f"{count}{torch.cuda.get_device_name()}, {precision}"
    threads = options.threads * options.processes
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}, {precision}"


def announce(options: FinetuneSettings) -> None:
    """Say what will compute, and warn of GPUs that could and will not.

    :raises ConfigError: more processes are to learn side by side than there are GPUs for.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if uses_gpu(options) and options.processes > there:
        raise ConfigError(
            f"finetune.processes: {options.processes} processes take a GPU each, and there are {there}; "
            f'say {there}, or finetune.device = "cpu"'
        )
    _log.info("fine-tuning on %s", describe(options))
    if there and not uses_gpu(options):
        _log.warning(
            'a GPU stands idle (%s): the recipe says finetune.device = "cpu"; --device auto uses it',
            torch.cuda.get_device_name(),
        )
    elif there > options.processes:
        _log.warning("%d of %d GPUs stand idle: finetune.processes = %d", there - options.processes, there, there)


def wait_for_gpu() -> None:
    """Come back when it has done what it was given: it works on while Python goes ahead, and clocks would miss that."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
