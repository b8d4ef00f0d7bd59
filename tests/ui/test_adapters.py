"""The adapters of runs: found, handed out as files, chosen for the chat, gone on from."""

import shutil
import zipfile

import pytest
from run_helpers import ASSETS, made_run

from medgrpo.engines.adapters import check_adapter
from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.errors import MedGRPOError, ModelError, RunError
from medgrpo.models import DEFAULT_PROFILE, find_gguf
from medgrpo.settings import Settings
from medgrpo.training import adapters
from medgrpo.training.checks import warm_start_problems
from medgrpo.training.config import parse_config
from medgrpo.training.manager import RunManager
from medgrpo.training.preflight import read_yaml
from medgrpo.ui import adapter_picker, train_afterwards
from medgrpo.ui.desk import Desk


@pytest.fixture
def manager(tmp_path):
    made_run(tmp_path, "one", checkpoints=(20, 40))
    made_run(tmp_path, "two", adapter=False, checkpoints=())
    return RunManager(tmp_path)


def fake_desk():
    def load(settings):
        if settings.adapter and not adapters_fit(settings.adapter):
            raise ModelError("The adapter does not fit.")
        return FakeEngine({"base": Script("b"), "grpo": Script("<answer>x</answer>")})

    def adapters_fit(folder):
        return "checkpoint-40" not in folder

    desk = Desk(Settings(engine="fake"), load).open()
    desk.check(5)
    return desk


def test_final_adapter_and_checkpoints_are_listed_the_latest_first(manager):
    found = adapters.adapters_of(manager.info("one"))
    assert [each.id for each in found] == ["one", "one@40", "one@20"]
    assert [each.title for each in found] == ["one", "one, step 40", "one, step 20"]
    assert adapters.adapters_of(manager.info("two")) == []


@pytest.mark.parametrize("bad", ["two", "one@30", "one@", "nobody", "../one", "one@../../etc", "", "@"])
def test_an_adapter_that_is_not_there_is_a_sentence(manager, bad):
    with pytest.raises(RunError) as error:
        adapters.find(manager, bad)
    assert str(error.value)[-1] == "."


def test_a_torn_checkpoint_is_no_adapter(manager):
    weights = manager.info("one").path / "checkpoint-40" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert [each.id for each in adapters.adapters_of(manager.info("one"))] == ["one", "one@20"]


@pytest.mark.parametrize("adapter_id", ["one", "one@20"])
def test_an_adapter_is_exported_for_peft_and_for_llama_cpp(manager, tmp_path, adapter_id):
    out = tmp_path / "out"
    out.mkdir()
    (packed, converted), missing = train_afterwards.export(manager, adapter_id, out)
    assert missing == ""
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        assert archive.read("adapter_model.safetensors") == (ASSETS / "adapter_model.safetensors").read_bytes()
        assert ("README.md" in archive.namelist()) == (adapter_id == "one")
    check_adapter(converted, find_gguf(DEFAULT_PROFILE))
    assert converted.suffix == ".gguf"
    assert "@" not in converted.name


def test_an_adapter_without_its_base_model_is_exported_for_peft_alone(manager, tmp_path):
    config = manager.info("one").path / "config.yaml"
    config.write_text(config.read_text().replace("model: smollm2-135m", "model: someone/other"))
    files, missing = train_afterwards.export(RunManager(tmp_path), "one", tmp_path)
    assert [file.suffix for file in files] == [".zip"]
    assert "someone/other" in missing


def test_files_that_vanish_while_they_are_packed_are_a_sentence(manager, tmp_path):
    found = adapters.find(manager, "one")
    (found.folder / "adapter_model.safetensors").unlink()
    with pytest.raises(RunError, match="cannot be packed"):
        adapters.export_peft(found, tmp_path)
    assert not list(tmp_path.glob("*.zip"))


def test_a_fork_goes_on_from_the_checkpoint_with_everything_else_the_same(manager):
    raw = read_yaml(train_afterwards.fork_yaml(manager, "one@20"))
    config = parse_config(raw)
    before = parse_config(read_yaml((manager.info("one").path / "config.yaml").read_text()))
    assert config.init_adapter == str((manager.info("one").path / "checkpoint-20").absolute())
    assert config.as_mapping() == before.as_mapping() | {"init_adapter": config.init_adapter}
    assert warm_start_problems(config.init_adapter, config.lora, config.model) == []
    shutil.rmtree(config.init_adapter)
    assert warm_start_problems(config.init_adapter, config.lora, config.model)


def test_the_picker_offers_every_adapter_and_knows_which_one_answers(manager):
    desk = fake_desk()
    infos = manager.runs()
    options = adapter_picker.choices(infos, adapter_picker.own_title(desk))
    assert [value for _, value in options] == [adapter_picker.OWN, "one", "one@40", "one@20"]
    assert adapter_picker.current(desk, infos) == adapter_picker.OWN
    assert adapter_picker.use(desk, manager, "one@20") == "one, step 20"
    assert adapter_picker.current(desk, infos) == "one@20"
    assert desk.engine.adapter == "one, step 20"
    with pytest.raises(MedGRPOError, match="does not fit"):
        adapter_picker.use(desk, manager, "one@40")
    assert adapter_picker.current(desk, infos) == "one@20"
    adapter_picker.use(desk, manager, adapter_picker.OWN)
    assert adapter_picker.current(desk, infos) == adapter_picker.OWN
    desk.close()


def test_an_adapter_whose_folder_is_gone_still_answers_and_is_no_choice(manager):
    desk = fake_desk()
    adapter_picker.use(desk, manager, "one@20")
    shutil.rmtree(manager.info("one").path / "checkpoint-20")
    assert adapter_picker.current(desk, manager.runs()) is None
    assert desk.health().state == "ready"
    desk.close()
