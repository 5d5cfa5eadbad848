"""The learning rate over a run, as a pure function: nothing to checkpoint, nothing that depends on the rung."""

from math import cos, pi

from fgmodel.config import OptimConfig


def rate_factor(optim: OptimConfig, epoch: float) -> float:
    """Return what both learning rates are multiplied by at `epoch`, a fraction within it included.

    Cosine moves with every step and spans `optim.epochs` wherever the run pauses, so a promoted trial continues the
    curve it was on. A step is asked for at its middle, (step + ½) / steps: so neither the first step of a warm-up nor
    the last of a cosine is lost to a rate of zero.
    """
    return _warmup(optim, epoch) * _decay(optim, epoch)


def _warmup(optim: OptimConfig, epoch: float) -> float:
    return min(1.0, epoch / optim.warmup_epochs) if optim.warmup_epochs else 1.0


def _decay(optim: OptimConfig, epoch: float) -> float:
    match optim.schedule:
        case "constant":
            return 1.0
        case "cosine":
            return (1 + cos(pi * min(1.0, epoch / optim.epochs))) / 2
        case "step":  # acts at an epoch's end; the released code steps at its start, one epoch early today (§3)
            return float(optim.decay ** (int(epoch) // optim.step_epochs))
        case "milestones":
            return float(optim.decay ** sum(epoch >= milestone for milestone in optim.milestones))
