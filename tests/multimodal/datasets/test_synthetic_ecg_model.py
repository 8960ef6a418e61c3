"""The model behind the synthetic ECGs: against its differential equation, leads against electrodes,
and rhythms and shapes against textbook criteria, measured on signals without noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from multimodal.datasets.synthetic.ecg import plan
from multimodal.datasets.synthetic.ecg_model import (
    CONDITIONS,
    DOWER,
    EDGE,
    SECONDS,
    Tracing,
    Waves,
    dipole,
    leads,
    twelve_leads,
)
from multimodal.modalities.ecg import LEADS

NAMES = tuple(CONDITIONS)
TIME = np.arange(-0.4, 0.8, 0.001)
ONE, TWO, V1, V2, V5, V6 = 0, 1, 2, 3, 6, 7  # rows of DOWER
BLOCKS = ("left_bundle_branch_block", "right_bundle_branch_block")


def tracings(name: str, count: int = 20) -> list[Tracing]:
    label = NAMES.index(name)
    return [plan(name, (3, n % 2, label, n))[1] for n in range(count)]


def one_beat(tracing: Tracing) -> np.ndarray:
    """(8, T): a single beat that starts at 0, at the times ``TIME``."""
    return DOWER @ dipole(TIME, np.zeros(1), tracing.beat)


def at(signal: np.ndarray, seconds: float) -> np.ndarray:
    return signal[:, np.argmin(np.abs(TIME - seconds))]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9))
def test_leads_equal_differences_of_electrodes(potentials: list[float]) -> None:
    """Right arm, left arm, left leg and six on the chest, in mV."""
    right, left, leg, *chest = potentials
    centre = (right + left + leg) / 3  # Wilson's terminal
    v = [c - centre for c in chest]
    found = twelve_leads(np.array([[left - right], [leg - right], *[[x] for x in v]]))[:, 0]
    expected = {
        "I": left - right,
        "II": leg - right,
        "III": leg - left,
        "aVR": right - (left + leg) / 2,
        "aVL": left - (right + leg) / 2,
        "aVF": leg - (right + left) / 2,
        **dict(zip(LEADS[6:], v, strict=True)),
    }
    assert found == pytest.approx([expected[lead] for lead in LEADS], abs=1e-12)


@pytest.mark.parametrize("period", [0.45, 0.8, 1.4])
def test_the_dipole_solves_the_published_equations(period: float) -> None:
    """Sameni et al., eq. 2 (McSharry et al., eq. 1 without z0), integrated numerically."""
    speed = 2 * np.pi / period
    waves = Waves(
        at=np.array([-0.15, 0.02, 0.05]),
        width=np.array([0.02, 0.008, 0.01]),
        vector=np.array([[0.1, 0.1, 0.0], [1.0, 0.7, 0.2], [-0.2, 0.1, 0.6]]),
    )
    angle, width = speed * waves.at, speed * waves.width

    def slope(_: float, state: np.ndarray) -> np.ndarray:
        x, y = state[:2]
        pull = 1 - np.hypot(x, y)
        away = (np.arctan2(y, x) - angle + np.pi) % (2 * np.pi) - np.pi
        kick = speed / width**2 * away * np.exp(-(away**2) / (2 * width**2))
        return np.array([pull * x - speed * y, pull * y + speed * x, *(-waves.vector.T @ kick)])

    time = np.linspace(0, 3 * period, 400)
    onsets = period * np.arange(-1, 5)
    start = dipole(time[:1], onsets, waves)[:, 0]
    solution = solve_ivp(
        slope, (0, time[-1]), [1, 0, *start], t_eval=time, rtol=1e-8, atol=1e-9, max_step=0.002
    )
    assert np.abs(solution.y[2:] - dipole(time, onsets, waves)).max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_waves_of_a_qrs_complex_stay_within_it(name: str) -> None:
    for place, width, _ in CONDITIONS[name].shape:
        assert place - EDGE * width + 0.01 >= 0
        assert place + EDGE * width <= 1.01


def test_rhythms() -> None:
    for name in NAMES:
        for tracing in tracings(name):
            steps = np.diff(tracing.onsets)
            spread = steps.std() / steps.mean()
            assert (spread > 0.1) == (name == "atrial_fibrillation")
            slow, fast = tracing.rate < 60, tracing.rate > 100
            assert not slow or name in ("sinus_bradycardia", "atrial_fibrillation")
            assert not fast or name.startswith(("sinus_tachycardia", "atrial"))
            assert slow or name != "sinus_bradycardia"
            assert fast or name != "sinus_tachycardia"
            assert (tracing.pr is None) == (tracing.atrial is not None)
            assert (tracing.pr or 0) > 0.2 or name != "first_degree_av_block"
            assert len(tracing.premature) == (len(tracing.onsets)) * (name == NAMES[5])
            # Beats reach beyond both ends, so that a recording may begin anywhere in a beat.
            assert tracing.onsets[0] < -0.4
            assert tracing.onsets[-1] > SECONDS + 0.33


def test_flutter_waves_repeat_in_the_inferior_leads() -> None:
    time = np.arange(0, SECONDS, 0.01)
    for tracing in tracings("atrial_flutter"):
        assert tracing.atrial is not None
        power = np.abs(np.fft.rfft(leads(tracing._replace(onsets=np.zeros(0)), time)[TWO])) ** 2
        peak = np.fft.rfftfreq(len(time), 0.01)[power.argmax()]
        assert 4.5 <= peak <= 5.4
        assert tracing.onsets[1] - tracing.onsets[0] > 2.9 / tracing.atrial.rate


@pytest.mark.parametrize("name", NAMES)
def test_morphologies_meet_textbook_criteria(name: str) -> None:
    for tracing in tracings(name):
        beat = one_beat(tracing)
        complexes = beat[:, (TIME >= 0) & (tracing.qrs >= TIME)]
        level = at(beat, tracing.qrs + 0.06)
        inferior = level[[TWO, TWO]] - (0, level[ONE])  # II and III
        t_wave = at(beat, 0.7 * tracing.qt)
        wide = tracing.qrs >= 0.12
        sokolow = complexes[[V5, V6]].max() - complexes[V1].min()
        qtc = tracing.qt * (tracing.rate / 60) ** 0.5
        assert (sokolow > 3.5) == (name == "left_ventricular_hypertrophy")
        assert (qtc > 0.47) == (name == "long_qt")
        assert wide == (name in (*BLOCKS, "preexcitation"))
        assert ((tracing.pr or 1) < 0.12) == (name == "preexcitation")
        if name == "left_bundle_branch_block":
            assert complexes[V1].max() < 0.1
            assert complexes[V6].min() > -0.05
            assert t_wave[V6] < 0
        elif name == "right_bundle_branch_block":
            last = at(beat, 0.76 * tracing.qrs)
            assert last[V1] > 0.3
            assert max(last[ONE], last[V6]) < -0.15
        else:
            assert (t_wave[V5] < 0) == (name == "t_wave_inversion")
        if name == "inferior_st_elevation":
            assert inferior.min() > 0.1
            assert level[ONE] - level[TWO] / 2 < 0  # aVL, opposite
        elif name == "anterior_st_elevation":
            assert level[[V1, V2]].min() > 0.1
        elif name not in (*BLOCKS, "sinus_tachycardia", "atrial_fibrillation", "preexcitation"):
            assert inferior.max() < 0.15
            assert level[V2] < 0.15


def test_every_second_beat_of_bigeminy_is_early_and_wide() -> None:
    for tracing in tracings("ventricular_bigeminy"):
        gap = tracing.premature - tracing.onsets
        assert (gap[:-1] < 0.4 * np.diff(tracing.onsets)).all()
        beat = tracing.ectopic
        assert beat.at[-2] + EDGE * beat.width[-2] > 0.12
