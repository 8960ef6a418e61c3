"""The heart of the synthetic ECGs: a dipole that follows a published dynamical model.

McSharry, Clifford, Tarassenko and Smith, "A dynamical model for generating synthetic
electrocardiogram signals", IEEE Trans. Biomed. Eng. 50(3):289-294, 2003: a point runs round the
unit circle, once a beat, and every wave i pulls z up and down where the point passes the wave's
angle. Sameni et al., "Multichannel ECG and noise modeling", EURASIP J. Adv. Signal Process. 2007:
three such z are the heart's dipole, of which every lead is a projection.

Deviations. On the unit circle the angle is known, so z' = -sum_i a_i (w / b_i^2) d_i exp(-d_i^2 /
(2 b_i^2)), with w the angular velocity and d_i the angle from wave i, has the solution
sum_i a_i exp(-d_i^2 / (2 b_i^2)), which is used here with times instead of angles (angle / w).
McSharry's term -(z - z0), a slow return to the baseline, is left out as by Sameni; the wander is
added to the leads. Angles are not wrapped, so that neighbouring beats may differ and overlap. The
two peaks in the spectrum of the intervals between beats (0.1 and 0.25 Hz) are lines. Wave shapes of
the conditions, and atrial fibrillation and flutter, are Medley's own: none is fitted to patients.

The dipole's axes are X to the patient's left, Y down and Z to the back, in millivolts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RATE, SECONDS = 100, 5.0
EDGE = 2.5  # a wave begins and ends so many widths from its centre
# Dower, Machado and Osborne, Clin. Cardiol. 3:87, 1980: leads I, II, V1 to V6 from X, Y, Z.
DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
Vector = tuple[float, float, float]
Span = tuple[float, float]
Shape = tuple[tuple[float, float, Vector], ...]
# A QRS complex: place and width of its waves as shares of its duration, dipole in mV.
NARROW: Shape = (
    (0.20, 0.08, (-0.12, 0.00, -0.22)),
    (0.48, 0.10, (1.00, 0.75, 0.15)),
    (0.80, 0.08, (-0.25, -0.10, 0.65)),
)
LEFT_BLOCK: Shape = ((0.30, 0.12, (0.70, 0.20, 0.60)), (0.67, 0.13, (0.80, 0.05, 0.70)))
RIGHT_BLOCK: Shape = (
    (0.14, 0.055, (-0.12, 0.00, -0.22)),
    (0.34, 0.07, (0.95, 0.70, 0.25)),
    (0.76, 0.095, (-0.60, 0.05, -0.60)),
)
DELTA: Shape = (
    (0.30, 0.12, (0.40, 0.32, -0.05)),
    (0.60, 0.08, (0.95, 0.70, 0.10)),
    (0.84, 0.06, (-0.20, -0.10, 0.50)),
)
PREMATURE: Shape = ((0.32, 0.125, (-0.45, 0.95, -0.80)), (0.70, 0.12, (-0.35, 0.70, -0.60)))
P_WIDTH, P_VECTOR = 0.02, (0.07, 0.11, -0.03)
T_VECTOR: Vector = (0.28, 0.20, -0.14)


class Condition(NamedTuple):
    """What a heart may do.

    rate: ventricular, per minute. pr, qrs, qtc: intervals in seconds (Bazett's QTc); pr is None
    without P waves. shape: of the QRS complex. t: T wave, st: elevation behind the QRS complex, in
    mV. voltage: factor of the QRS complex.
    """

    rate: Span = (65.0, 92.0)
    pr: Span | None = (0.13, 0.18)
    qrs: Span = (0.08, 0.10)
    qtc: Span = (0.38, 0.42)
    shape: Shape = NARROW
    t: Vector = T_VECTOR
    st: Vector = (0.0, 0.0, 0.0)
    voltage: Span = (0.75, 1.15)


CONDITIONS = {
    "normal_sinus_rhythm": Condition(),
    "sinus_bradycardia": Condition(rate=(40.0, 52.0)),
    "sinus_tachycardia": Condition(rate=(110.0, 145.0)),
    "atrial_fibrillation": Condition(rate=(70.0, 120.0), pr=None),
    "atrial_flutter": Condition(pr=None),
    "ventricular_bigeminy": Condition(rate=(62.0, 80.0)),
    "first_degree_av_block": Condition(pr=(0.23, 0.32)),
    "left_bundle_branch_block": Condition(
        qrs=(0.13, 0.16), qtc=(0.41, 0.44), shape=LEFT_BLOCK, t=(-0.28, -0.12, -0.25)
    ),
    "right_bundle_branch_block": Condition(
        qrs=(0.13, 0.15), qtc=(0.41, 0.44), shape=RIGHT_BLOCK, t=(0.30, 0.15, 0.15)
    ),
    "inferior_st_elevation": Condition(st=(-0.05, 0.32, 0.0)),
    "anterior_st_elevation": Condition(st=(0.05, 0.0, -0.24)),
    "left_ventricular_hypertrophy": Condition(voltage=(2.8, 3.2)),
    "long_qt": Condition(qtc=(0.50, 0.56)),
    "t_wave_inversion": Condition(t=(-0.26, -0.20, 0.12)),
    "preexcitation": Condition(pr=(0.09, 0.11), qrs=(0.12, 0.14), shape=DELTA),
}


class Waves(NamedTuple):
    """The waves of a beat: at (W,) and width (W,) in s from the QRS onset, vector (W, 3) in mV."""

    at: np.ndarray
    width: np.ndarray
    vector: np.ndarray


class Atrial(NamedTuple):
    """Flutter or fibrillation: waves a second, wobble of their phase in cycles, vector in mV."""

    rate: float
    wobble: float
    phase: float
    vector: np.ndarray


class Patient(NamedTuple):
    """What stays the same in all recordings of a patient.

    qrs_turn, turn: (3, 3) rotations of the QRS complex and of the other waves. places: in [0, 1],
    where in a condition's spans the PR, QRS and QTc intervals and the voltage lie. p, t: factors.
    """

    qrs_turn: np.ndarray
    turn: np.ndarray
    places: np.ndarray
    p: float
    t: float


class Tracing(NamedTuple):
    """All that is in a recording but noise.

    onsets, premature: starts of the QRS complexes in s, some before the recording and after it.
    rate: of those within it, per minute. pr, qrs, qt: s. axis: of the QRS complex, degrees.
    """

    onsets: np.ndarray
    premature: np.ndarray
    rate: float
    pr: float | None
    qrs: float
    qt: float
    axis: float
    beat: Waves
    ectopic: Waves
    atrial: Atrial | None


def draw_patient(rng: np.random.Generator) -> Patient:
    """A patient; the axis of a narrow QRS complex lies some 20 to 87 degrees down from the left."""
    common = rng.uniform((-25.0, -10.0), (15.0, 10.0))
    own = rng.uniform(-6.0, 6.0, (2, 2))
    p, t = rng.uniform((0.8, 0.8), (1.2, 1.25))
    return Patient(_turn(common + own[0]), _turn(common + own[1]), rng.uniform(size=4), p, t)


def draw_tracing(
    name: str, patient: Patient, rng: np.random.Generator, *, other: Condition | None = None
) -> Tracing:
    """One recording of a patient in the named condition, with the waves of an ``other`` one."""
    condition = other or CONDITIONS[name]
    atrial = _atrial(name, rng)
    onsets, premature = _onsets(name, 60 / rng.uniform(*condition.rate), atrial, rng)
    both = np.sort(np.concatenate([onsets, premature]))
    rate = 60 / float(np.diff(both[(both >= 0) & (both < SECONDS)]).mean())
    spans = (condition.pr or (0.0, 0.0), condition.qrs, condition.qtc, condition.voltage)
    low, high = np.array(spans).T
    pr, qrs, qtc, voltage = (low + patient.places * (high - low)).tolist()
    qt = qtc * (60 / rate) ** 0.5
    complexes = _scaled(condition.shape, qrs, voltage * patient.qrs_turn)
    # A patient's axis turns his waves, but not the wall whose injury lifts the ST segment.
    elevation = rng.uniform(0.7, 1.2) * np.array(condition.st)
    st = _stacked([(qrs + 0.07, 0.04, elevation)], np.eye(3))
    rest = [(0.7 * qt, 0.12 * qt, patient.t * np.array(condition.t))]
    if condition.pr:
        rest.append((EDGE * P_WIDTH - pr, P_WIDTH, patient.p * np.array(P_VECTOR)))
    wide = rng.uniform(0.14, 0.17)
    opposite = (wide + 0.16, 0.05, -0.4 * np.array(PREMATURE[0][2]))
    return Tracing(
        onsets=onsets,
        premature=premature,
        rate=rate,
        pr=pr if condition.pr else None,
        qrs=qrs,
        qt=qt,
        axis=axis(complexes),
        beat=_joined(complexes, st, _stacked(rest, patient.turn)),
        ectopic=_joined(
            _scaled(PREMATURE, wide, patient.qrs_turn), _stacked([opposite], patient.turn)
        ),
        atrial=atrial,
    )


def leads(tracing: Tracing, time: np.ndarray) -> np.ndarray:
    """(8, T) mV of leads I, II, V1 to V6 at the times (T,) in s."""
    heart = dipole(time, tracing.onsets, tracing.beat)
    heart += dipole(time, tracing.premature, tracing.ectopic)
    if tracing.atrial is not None:
        heart += atrial_dipole(time, tracing.atrial)
    return DOWER @ heart


def dipole(time: np.ndarray, onsets: np.ndarray, waves: Waves) -> np.ndarray:
    """(3, T) mV: the closed solution of the model for beats that start at ``onsets`` (B,)."""
    centre = onsets[:, None] + waves.at
    away = (time - centre[..., None]) / waves.width[:, None]
    return waves.vector.T @ np.exp(-0.5 * away**2).sum(0)


def atrial_dipole(time: np.ndarray, atrial: Atrial) -> np.ndarray:
    """(3, T) mV: a sawtooth of four harmonics whose phase wobbles at 0.7 Hz."""
    cycles = atrial.phase + atrial.rate * time
    cycles += atrial.wobble * np.sin(2 * np.pi * (0.7 * time + atrial.phase))
    harmonics = np.arange(1, 5)
    saw = (np.sin(2 * np.pi * np.outer(harmonics, cycles)) / harmonics[:, None]).sum(0)
    return np.outer(atrial.vector, saw)


def twelve_leads(eight: np.ndarray) -> np.ndarray:
    """(8, T) of I, II, V1 to V6 -> (12, T) of I II III aVR aVL aVF V1 to V6, same type.

    The limb leads are those of two voltages: III = II - I, aVR = -(I + II) / 2, aVL = I - II / 2,
    aVF = II - I / 2.
    """
    one, two = eight[0], eight[1]
    return np.stack(
        [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *eight[2:]]
    )


def axis(complexes: Waves) -> float:
    """Degrees of the QRS complex in the frontal plane, -180 to 180; 0 = left, 90 = down.

    From the areas under leads I and aVF, the latter times 2 / sqrt(3), by which augmented leads
    are smaller.
    """
    one, two = DOWER[:2] @ (complexes.vector * complexes.width[:, None]).sum(0)
    return float(np.degrees(np.arctan2((two - one / 2) * 2 / 3**0.5, one)))


def _onsets(
    name: str, mean: float, atrial: Atrial | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Starts of the QRS complexes of conducted and of premature beats, in s."""
    variation = 0.015
    if name == "atrial_flutter":
        assert atrial is not None
        mean, variation = rng.integers(3, 5) / atrial.rate, 0.0  # of so many waves one is conducted
    number = np.arange(int(SECONDS / mean) + 6)
    phases = rng.uniform(0, 2 * np.pi, (2, 1)) + 2 * np.pi * np.outer((0.1, 0.25), number * mean)
    steps = mean * (1 + variation * np.sin(phases).sum(0))
    if name == "atrial_fibrillation":
        steps = np.maximum(0.35, rng.gamma(20.0, mean / 20.0, 2 * len(number)))
    onsets = np.cumsum(steps) - steps[0] * (2 + rng.random())
    if name != "ventricular_bigeminy":
        return onsets, onsets[:0]
    return onsets[::2], onsets[::2] + rng.uniform(0.58, 0.68) * mean


def _atrial(name: str, rng: np.random.Generator) -> Atrial | None:
    if name == "atrial_fibrillation":
        size, rate, wobble = rng.uniform((0.03, 5.5, 0.3), (0.06, 8.0, 0.5))
        return Atrial(rate, wobble, rng.random(), size * np.array((-0.3, 0.4, -1.0)))
    if name == "atrial_flutter":
        size, rate = rng.uniform((0.08, 4.6), (0.14, 5.3))
        return Atrial(rate, 0.0, rng.random(), size * np.array((0.1, -1.0, -0.4)))
    return None


def _turn(degrees: np.ndarray) -> np.ndarray:
    """(3, 3): rotation in the frontal plane (from left to down), then in the horizontal one."""
    (a, b) = np.radians(degrees)
    frontal = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    horizontal = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    return horizontal @ frontal


def _scaled(shape: Shape, duration: float, turn: np.ndarray) -> Waves:
    rows = [(at * duration, width * duration, np.array(vector)) for at, width, vector in shape]
    return _stacked(rows, turn)


def _stacked(rows: list[tuple[float, float, np.ndarray]], turn: np.ndarray) -> Waves:
    at, width, vectors = zip(*rows, strict=True)
    return Waves(np.array(at), np.array(width), np.array(vectors) @ turn.T)


def _joined(*parts: Waves) -> Waves:
    return Waves(*(np.concatenate(pieces) for pieces in zip(*parts, strict=True)))
