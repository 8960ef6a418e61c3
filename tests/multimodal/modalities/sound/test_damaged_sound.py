"""Damaged sound: decoded whole, or refused in one line; never a traceback, never a wait."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sound_files import ALL, CHECKED, RATE, encoded, load, mutated, sweep

from multimodal.errors import UserError
from multimodal.modalities.sound.part import Part
from multimodal.modalities.sound.read import UnknownSound, read_sound
