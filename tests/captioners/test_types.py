import pytest

from captioners import GenerationSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_new_tokens", 0), ("temperature", 0.0), ("top_k", -1), ("top_p", 0.0), ("top_p", 1.1), ("num_beams", 0)],
)
def test_generation_settings_name_the_value_they_refuse(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        GenerationSettings(**{name: value})
