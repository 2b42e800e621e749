"""The README and the pages of docs/: the command line accepts their commands, their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from ntkbias.cli.parsing import parsed

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted(
    {line for page in PAGES for line in page.read_text().splitlines() if re.match(r"ntkbias \w+ --", line)}
)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)  # in which brackets are no links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", CODE.sub("", page.read_text())):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_accepts_what_a_page_shows(command):
    arguments = shlex.split(command)[1:]
    if "--config" in arguments:  # the file is not there
        place = arguments.index("--config")
        del arguments[place : place + 2]
    assert parsed(arguments)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
