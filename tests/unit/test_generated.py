"""Derived texts say what the code says. When one of these fails: `make generate`, and read the diff."""

from respraft.config import RaftConfig
from respraft.config_file import load
from tests import generate


def test_the_configuration_file_is_made_from_the_code() -> None:
    assert generate.CONFIG_PATH.read_text(encoding="utf-8") == generate.config_file()


def test_the_values_in_it_are_the_defaults() -> None:
    config = load(generate.CONFIG_PATH)

    assert config.raft == RaftConfig()
    assert [member.id for member in config.cluster.members] == [1, 2, 3]


def test_the_readme_lists_the_commands_there_are_and_shows_the_examples_as_they_run() -> None:
    text = generate.README_PATH.read_text(encoding="utf-8")

    assert text == generate.readme(text)
