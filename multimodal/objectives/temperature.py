"""What the objectives that are set by a temperature, not by its inverse, have in common."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from multimodal.objectives.views import ViewsConfig

TEMPERATURES = (0.01, 0.5)  # between which a learned one stays


class TemperatureConfig(ViewsConfig):
    """temperature: by which similarities are divided. learn_temperature: it is trained from there,
    between 0.01 and 0.5.
    """

    temperature: float = Field(gt=0, le=100)
    learn_temperature: bool = False

    @property
    def start(self) -> dict[str, Any]:
        low, high = TEMPERATURES
        return {
            "scale": 1 / self.temperature,
            "bias": 0.0,
            "learn_scale": self.learn_temperature,
            "min_scale": 1 / high,
            "max_scale": 1 / low,
        }

    @property
    def temperature_words(self) -> str:
        """For the name of a row: what is not as by default."""
        fields = type(self).model_fields
        words = ""
        if self.learn_temperature != fields["learn_temperature"].default:
            words = f", {'learned' if self.learn_temperature else 'fixed'} temperature"
        usual = self.temperature == fields["temperature"].default
        return words if usual else f"{words}, tau {self.temperature:g}"

    @property
    def named(self) -> tuple[str, ...]:
        return ("temperature", "learn_temperature")

    @model_validator(mode="after")
    def _temperature_fits(self) -> Self:
        check_temperature(self.temperature, learned=self.learn_temperature)
        return self


def check_temperature(temperature: float, *, learned: bool) -> None:
    """ValueError for one that is learned and begins where it may not go."""
    low, high = TEMPERATURES
    if learned and not low <= temperature <= high:
        raise ValueError(f"temperature={temperature} is learned; begin in [{low}, {high}]")
