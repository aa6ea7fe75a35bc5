"""What every section of the configuration has in common."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A section of the configuration: unknown keys are refused, values are checked on assignment too.

    One value stands for a list of one (`k: 10`), and a number for a text (`user_column: 1`).
    """

    model_config = ConfigDict(
        extra="forbid",
        validate_assignment=True,
        protected_namespaces=(),
        coerce_numbers_to_str=True,
        allow_inf_nan=False,  # the records that a configuration goes into are JSON, which has neither
    )

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            name: [value]
            if name in fields and isinstance(value, (str, int, float)) and _takes_a_list(fields[name].annotation)
            else value
            for name, value in values.items()
        }


def _takes_a_list(annotation: Any) -> bool:
    """Whether a setting is a list, perhaps or none."""
    return get_origin(annotation) is list or any(get_origin(part) is list for part in get_args(annotation))
