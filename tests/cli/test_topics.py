"""`orderctl help`: each topic is there, complete and true."""

from __future__ import annotations

import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import cli
from kernel import EventSourcedKernel, errors
from kernel.errors import KernelError
from kernel.lifecycle.remediation import REMEDIATION
from kernel.models import FindingKind
from kernel.safety.limit_settings import Limits
from kernel.safety.readiness import REMEDIES as CONDITIONS
from kernel.subscriptions import FIELDS
from replay import connect, open_kernel
from replay.cli.help import FOLDER, PROGRAM, TOPICS, topic_text
from replay.formatting.problems import ProblemKind
from replay.host.blocking import BlockingKernel
from replay.manifests.schema import parse_manifests
from tests.cli.documents import DOCUMENTS, fenced
from tests.cli.test_metrics import port_of
from tests.cli.test_tour import TOUR
from tests.cli.world import COMMANDS, PROJECT, World, clean_environment

API, RUNBOOK = topic_text("api"), topic_text("runbook")
CALLS = [name for name, _ in inspect.getmembers(EventSourcedKernel, callable) if not name.startswith("_")]
TIMEOUT_S = 240


def help_of(*words: str) -> str:
    """What `orderctl help` prints into a pipe."""
    result = CliRunner().invoke(cli, ["help", *words], prog_name="orderctl")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_the_list_has_every_topic() -> None:
    """One line for each file, in order; nothing else is in the folder."""
    lines = help_of().splitlines()

    assert [line.split()[0] for line in lines] == [*TOPICS, PROGRAM]
    assert all(len(line.split()) > 3 for line in lines)
    assert {item.name for item in FOLDER.iterdir() if item.is_file()} == {
        *(f"{name}.md" for name in TOPICS),
        "check_proof.py",
    }


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_plain_markdown_in_a_pipe(topic: str) -> None:
    """The text as it is, with a title and no mark that is still to be replaced."""
    text = help_of(topic)

    assert text == topic_text(topic)
    assert re.match(r"# [A-Z].+: .+\n\n", text)
    assert "@@" not in text


def test_a_topic_is_formatted_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the Markdown is rendered."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["help", "groups"], prog_name="orderctl")

    shown = capsys.readouterr().out
    assert "ONE_CANCELS_OTHER" in shown
    assert "|---|" not in shown


def test_an_unknown_topic_names_the_topics() -> None:
    """Exit code 2, and every topic on stderr."""
    result = CliRunner().invoke(cli, ["help", "nonsense"], prog_name="orderctl")

    assert (result.exit_code, result.stdout) == (2, "")
    assert all(topic in result.stderr for topic in TOPICS)


def test_the_program_is_printed_byte_for_byte() -> None:
    """What a third party gets is the file, and it needs nothing of this project."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "help", PROGRAM], capture_output=True, check=True, env=clean_environment()
    )

    assert done.stdout == (PROJECT / "replay/cli/topics/check_proof.py").read_bytes()
    imported = re.findall(rb"^ *(?:import|from) (\w+)", done.stdout, re.M)
    assert {name.decode() for name in imported} - set(sys.stdlib_module_names) == {"cryptography"}


# ------------------------------------------------------------------------------------------------------------- the API
def public(kind: type) -> dict[str, object]:
    """The public methods and properties of a class."""
    return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}


def documented_signature(name: str) -> str:
    """The call as the topic shows it, over line ends: `name(…)`."""
    found = re.search(rf"`{name}\(([^`]*)\)`", API)
    assert found is not None, f"{name} is not documented"
    return found[1]


@pytest.mark.parametrize(
    "name", [name for name in public(EventSourcedKernel) if callable(getattr(EventSourcedKernel, name))]
)
def test_every_call_has_every_argument(name: str) -> None:
    """Each method of the kernel is in the topic with all its arguments, in order, and no other."""
    expected = [item for item in inspect.signature(getattr(EventSourcedKernel, name)).parameters if item != "self"]

    given = [re.split(r"[=:]", part)[0].strip() for part in documented_signature(name).split(",")]
    assert [item for item in given if item not in ("", "*")] == expected


def test_every_other_member_is_named() -> None:
    """Properties of the kernel, and what the blocking one has beside it."""
    names = [name for name, value in public(EventSourcedKernel).items() if isinstance(value, property)]
    names += public(BlockingKernel).keys() - public(EventSourcedKernel).keys()

    assert [name for name in names if not re.search(rf"`{name}(\(\))?`", API)] == []


def test_every_argument_of_opening_is_in_the_tables() -> None:
    """Each argument of `open_kernel` has a row; `connect` takes the same ones."""
    section = API.partition("## Open a kernel")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", section, re.M)

    rows = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert rows == set(inspect.signature(open_kernel).parameters) == set(inspect.signature(connect).parameters)


def test_every_filter_key_and_every_error_is_there() -> None:
    """The filter keys of subscriptions, and each error with its exit code."""
    events, _, rest = API.partition("## Events")[2].partition("## Life")
    table = dict(re.findall(r"^\| `(\w+)` \| (\d) \|", rest, re.M))

    assert set(re.findall(r"^\| `(\w+)` \|", events, re.M)) == set(FIELDS)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KernelError)]
    assert table == {kind.__name__: str(kind.exit_code) for kind in kinds}


@pytest.mark.parametrize("topic", ["api", "testing"])
def test_its_programs_run(topic: str, tmp_path: Path) -> None:
    """The Python of a topic runs as it stands, in an empty directory."""
    for program in fenced(topic_text(topic), "python"):
        ran = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(PROJECT), "PATH": ""},
            capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr


# ------------------------------------------------------------------------------------------------------- other topics
@pytest.mark.parametrize(
    ("heading", "names"),
    [("Conditions", CONDITIONS), ("Findings", FindingKind), ("Problems that verify reports", ProblemKind)],
)
def test_the_runbook_has_each_name(heading: str, names: list[str]) -> None:
    """An entry for each condition and kind, and for nothing else; each says where to look, what to do and what not."""
    section = RUNBOOK.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]

    entries = dict(re.findall(r"^- `([A-Z_]+)`: (.*(?:\n  .*)*)", section, re.M))
    assert set(entries) == {str(name) for name in names}
    for name, text in entries.items():
        assert re.findall(r"^  - (Look|Do|Do not): \S", text, re.M) == ["Look", "Do", "Do not"], name


def test_a_finding_ends_with_the_remedy_of_the_runbook() -> None:
    """One source: the text of a finding and the runbook say the same."""
    for remedy in REMEDIATION.values():
        assert f"  - Do: {remedy.do.format(about='ID', finding_id='FINDING')}\n" in RUNBOOK


def test_every_metric_is_documented(tmp_path: Path) -> None:
    """The topic has each metric that a leading kernel exports, by its name, and no other."""
    world = World(f"sqlite:///{tmp_path / 'kernel.db'}")
    with world.child("run", "--metrics-port", "0") as leader:
        port = str(port_of(leader))
        leader.expect("ready: leads", err=True)
        text = world.ok("metrics", "--metrics-port", port, "-o", "prometheus")
    families = [name for name in re.findall(r"^# TYPE (\w+)", text, re.M) if not name.startswith("process_")]
    exported = {name.removeprefix("exchange_kernel_") for name in families}

    table = topic_text("metrics").partition("## All metrics")[2]
    documented = [name for cell in re.findall(r"^\| (`[^|]+) \|", table, re.M) for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(documented) == sorted(exported)
    named = set(re.findall(r"`([a-z]\w+_\w+)", topic_text("metrics"))) - {
        "exchange_kernel_",
        "workqueue_",
        "leader_election_",
    }
    assert named <= set(documented)


def test_every_limit_is_documented() -> None:
    """The topic has a row for each pre-trade limit, and for nothing else."""
    assert re.findall(r"^\| `(\w+)` \|", topic_text("limits"), re.M) == [*Limits.model_fields]


def test_every_change_of_what_if_is_documented() -> None:
    """The topic has each option that changes something in a simulation."""
    options = {name for param in COMMANDS["what-if"].params for name in param.opts}
    shared = {name for param in COMMANDS["decisions"].params for name in param.opts} | {"--at"}

    assert set(re.findall(r"`(--\w+)", topic_text("decisions"))) - {"--at"} == options - shared


def test_the_manifests_are_some() -> None:
    """The manifests of the topics are read as they stand."""
    texts = [text for topic in ("manifests", "groups") for text in fenced(topic_text(topic), "yaml")]

    found = parse_manifests([("topics", text.encode()) for text in texts])
    assert [item.name for item in found] == ["btc-bid-1", "trade-1"]


def test_the_sessions_are_parts_of_the_tour() -> None:
    """What a topic shows with its output is what a test runs; `test_walk.py` runs the session of `audit`."""
    sessions = [text for topic in TOPICS if topic != "audit" for text in fenced(topic_text(topic), "console")]

    assert sessions
    assert [text for text in sessions if text not in TOUR.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_it_names_in_the_code_exists(name: str) -> None:
    """Dotted names of modules, classes and functions resolve, paths of the project are there, and so are extras."""
    text = DOCUMENTS[name]
    for dotted in re.findall(r"`((?:kernel|projections|replay)(?:\.[A-Za-z_]\w*)+)[(`]", text):
        if not dotted.endswith((".db", ".lock", ".checkpoints", ".state")):
            assert pkgutil.resolve_name(dotted) is not None, dotted
    for path in re.findall(r"`((?:kernel|projections|replay|tests)/[\w/.*]+)`", text):
        assert any(PROJECT.glob(path)), path
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(re.findall(r"pip install '\.\[(\w+)\]'", text)) <= set(extras)
