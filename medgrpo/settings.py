"""Settings of the process, read from the environment in one place.

Nothing else in the package reads `os.environ` for its own configuration. A Settings value is frozen and passed down.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medgrpo.errors import SettingsError
from medgrpo.models import DEFAULT_PROFILE

QUOTES = ("exact", "free")
ENGINES = ("auto", "llamacpp", "vllm", "endpoint", "transformers", "fake")


@dataclass(frozen=True)
class Settings:
    """How this process asks models and where it keeps runs.

    Attributes:
        model: a profile name of `medgrpo.models.PROFILES`, or the path or Hub id of another model.
        adapter: folder, .gguf file or Hub id of the adapter; "" takes the one shipped with the profile.
        engine: one of `ENGINES`.
        endpoint: base URL of an OpenAI-compatible server, for the engine "endpoint".
        api_key: sent to that endpoint; never shown, logged or stored.
        runs: folder of training runs.
        admins: Hub user names that may train on a Space.
        training: None = allowed where it is safe, True/False = switched by hand.
        on_space: running as a Hugging Face Space.
        zero_gpu: on one whose GPU is lent for each call.
        threads: CPU threads the local engine may use in all; 0 = as many as the process may run on.
        gpu_memory: share of the GPU's memory that the engine "vllm" takes, in (0, 1].
        quotes: "exact" holds quoted phrases to the case, where the engine can (llama.cpp); "free" leaves them to the model.
        host: address that the page listens on.
        sign_in: visitors of the Space can sign in with their Hub account.
    """

    model: str = DEFAULT_PROFILE
    adapter: str = ""
    engine: str = "auto"
    endpoint: str = ""
    api_key: str = ""
    runs: Path = Path("runs")
    admins: tuple[str, ...] = ()
    training: bool | None = None
    on_space: bool = False
    zero_gpu: bool = False
    threads: int = 0
    gpu_memory: float = 0.8
    quotes: str = "exact"
    host: str = "127.0.0.1"
    sign_in: bool = False

    def __repr__(self) -> str:
        secret = "set" if self.api_key else "not set"
        return f"Settings(model={self.model!r}, adapter={self.adapter!r}, engine={self.engine!r}, api_key {secret})"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Settings from the environment.

        Raises:
            SettingsError: a variable has a value that cannot be used.
        """
        env = os.environ if environ is None else environ
        engine = env.get("MEDGRPO_ENGINE", "auto").strip().lower() or "auto"
        if engine not in ENGINES:
            raise SettingsError(f"MEDGRPO_ENGINE={engine!r} is not an engine: use one of {', '.join(ENGINES)}.")
        quotes = env.get("MEDGRPO_QUOTES", "").strip().lower() or "exact"
        if quotes not in QUOTES:
            raise SettingsError(f"MEDGRPO_QUOTES={quotes!r} is unknown: use one of {', '.join(QUOTES)}.")
        endpoint = env.get("MEDGRPO_ENDPOINT", "").strip()
        if engine == "endpoint" and not endpoint.startswith(("http://", "https://")):
            raise SettingsError(
                f"MEDGRPO_ENGINE=endpoint needs MEDGRPO_ENDPOINT, the base URL of an OpenAI-compatible server "
                f"such as http://127.0.0.1:8000/v1, and it is {endpoint!r}."
            )
        owner = env.get("SPACE_AUTHOR_NAME", "")
        admins = [name.strip() for name in f"{env.get('MEDGRPO_ADMINS', '')},{owner}".split(",")]
        return cls(
            model=env.get("MEDGRPO_MODEL", "").strip() or DEFAULT_PROFILE,
            adapter=env.get("MEDGRPO_ADAPTER", "").strip(),
            engine=engine,
            endpoint=endpoint,
            api_key=env.get("MEDGRPO_API_KEY", env.get("HF_TOKEN", "")) if endpoint else "",
            runs=Path(env.get("MEDGRPO_RUNS", "runs")).expanduser(),
            admins=tuple(name for name in admins if name),
            training=_switch("MEDGRPO_TRAINING", env.get("MEDGRPO_TRAINING", "")),
            on_space=env.get("SYSTEM") == "spaces",
            zero_gpu=env.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"),
            threads=_count("MEDGRPO_THREADS", env.get("MEDGRPO_THREADS", "0")),
            gpu_memory=_share("MEDGRPO_GPU_MEMORY", env.get("MEDGRPO_GPU_MEMORY", "") or "0.8"),
            quotes=quotes,
            host=env.get("GRADIO_SERVER_NAME", "").strip() or "127.0.0.1",
            sign_in=bool(env.get("OAUTH_CLIENT_ID")),
        )


def _switch(name: str, value: str) -> bool | None:
    known = {"": None, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if value.strip().lower() not in known:
        raise SettingsError(f"{name}={value!r} is neither on nor off: use 1 or 0.")
    return known[value.strip().lower()]


def _count(name: str, value: str) -> int:
    if not value.strip().isdecimal():
        raise SettingsError(f"{name}={value!r} is not a number of threads: use 0 for all, or a whole number.")
    return int(value)


def _share(name: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise SettingsError(
            f"{name}={value!r} is not a share of the memory: use a number from 0.1 to 0.95, such as 0.8."
        )
    return share
