from pathlib import Path

import pytest

from medgrpo.errors import SettingsError
from medgrpo.models import DEFAULT_PROFILE
from medgrpo.settings import Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.model == DEFAULT_PROFILE
    assert settings.training is None
    assert not settings.on_space


def test_every_variable_is_read() -> None:
    settings = Settings.from_env(
        {
            "MEDGRPO_MODEL": " qwen2.5-3b ",
            "MEDGRPO_ADAPTER": "someone/adapter",
            "MEDGRPO_ENGINE": "Endpoint",
            "MEDGRPO_ENDPOINT": "http://127.0.0.1:8000/v1",
            "MEDGRPO_API_KEY": "secret-key",
            "MEDGRPO_RUNS": "/tmp/runs",
            "MEDGRPO_ADMINS": "ada, grace,",
            "MEDGRPO_TRAINING": "1",
            "MEDGRPO_THREADS": "3",
            "MEDGRPO_GPU_MEMORY": "0.35",
            "MEDGRPO_QUOTES": "Free",
            "SYSTEM": "spaces",
            "SPACE_AUTHOR_NAME": "owner",
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "OAUTH_CLIENT_ID": "x",
        }
    )
    assert settings == Settings(
        model="qwen2.5-3b",
        adapter="someone/adapter",
        engine="endpoint",
        endpoint="http://127.0.0.1:8000/v1",
        api_key="secret-key",
        runs=Path("/tmp/runs"),
        admins=("ada", "grace", "owner"),
        training=True,
        on_space=True,
        threads=3,
        gpu_memory=0.35,
        quotes="free",
        host="0.0.0.0",
        sign_in=True,
    )
    assert "secret-key" not in repr(settings)


def test_a_hub_token_is_not_taken_along_without_an_endpoint() -> None:
    assert Settings.from_env({"HF_TOKEN": "hf_x"}).api_key == ""


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("MEDGRPO_ENGINE", "llama", "use one of auto, llamacpp"),
        ("MEDGRPO_ENGINE", "endpoint", "needs MEDGRPO_ENDPOINT"),
        ("MEDGRPO_TRAINING", "maybe", "use 1 or 0"),
        ("MEDGRPO_THREADS", "-1", "use 0 for all"),
        ("MEDGRPO_QUOTES", "some", "use one of exact, free"),
        ("MEDGRPO_GPU_MEMORY", "40 GB", "use a number from 0.1 to 0.95"),
        ("MEDGRPO_GPU_MEMORY", "1.5", "is not a share of the memory"),
    ],
)
def test_a_bad_value_is_named_with_the_remedy(variable: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as error:
        Settings.from_env({variable: value})
    assert variable in str(error.value)
