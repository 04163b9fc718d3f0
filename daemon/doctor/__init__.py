"""What a user's machine gets wrong: `lookalike doctor` looks, in its own process, and never writes anything."""

from daemon.doctor.context import Heard, Patient
from daemon.doctor.examination import NAMES, examine
from daemon.doctor.finding import Finding

__all__ = ["NAMES", "Finding", "Heard", "Patient", "examine"]
