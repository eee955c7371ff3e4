"""Manifests on the command line: applied, compared, refused as a whole."""

from __future__ import annotations

import errno
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from kernel.errors import ConflictError
from replay.host.bootstrap import open_client
from replay.manifests import apply
from replay.manifests.schema import parse_manifests, read_manifests
from tests.cli.world import World

Terms = dict[str, Any]


def manifest(name: str, *, owner: str = "", labels: dict[str, str] | None = None, **spec: Any) -> Terms:
    """A manifest of an order that rests below the market."""
    terms = {"symbol_id": "BTCUSDT", "side": "BUY", "order_type": "LIMIT", "quantity": "0.001", "price": "50000.00"}
    metadata: Terms = {"name": name, **({"owner": owner} if owner else {}), **({"labels": labels} if labels else {})}
    return {"apiVersion": "exchange-kernel/v1", "kind": "Order", "metadata": metadata, "spec": {**terms, **spec}}


def written(tmp_path: Path, *items: Terms, name: str = "m.yaml") -> str:
    """A file of manifests."""
    path = tmp_path / name
    path.write_text(yaml.safe_dump_all(items))
    return str(path)


def fresh(name: str = "o") -> str:
    """A name that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def test_apply_is_declarative_and_idempotent(live: World, tmp_path: Path) -> None:
    """Applying gives created, then unchanged, then configured, and the venue has what the file says."""
    a, b = fresh("a"), fresh("b")
    file = written(tmp_path, manifest(a, owner="mm-1", labels={"x": "1"}), manifest(b))

    assert live.ok("apply", "-f", file) == f"order/{a} created\norder/{b} created\n"
    head = json.loads(live.ok("health", "-o", "json"))["position"]
    assert live.ok("apply", "-f", file) == f"order/{a} unchanged\norder/{b} unchanged\n"
    written(tmp_path, manifest(a, owner="mm-1", labels={"x": "1"}), manifest(b, price="50100.0"))
    assert live.ok("apply", "-f", file) == f"order/{a} unchanged\norder/{b} configured\n"

    wanted = json.loads(live.ok("get", "intent", a, "-o", "json"))
    assert (wanted["owner"], wanted["metadata"]) == ("mm-1", {"labels": {"x": "1"}})
    order = json.loads(live.ok("get", "order", b, "-o", "json"))
    assert (order["status"]["order"]["price"], order["reconciliation_status"]) == ("50100.00", "SYNCED")
    assert "IntentModified" not in live.ok("events", "--for", a, "--after", str(head))


def test_apply_reads_several_files_and_stdin(idle: World, tmp_path: Path) -> None:
    """`-f` may be repeated; `-` is stdin; JSON works like YAML."""
    from click.testing import CliRunner

    from cli import cli

    file = written(tmp_path, manifest("a"))
    words = ["apply", "-f", file, "-f", "-", "--wait", "recorded"]
    result = CliRunner().invoke(cli, words, env=idle.environment, input=json.dumps(manifest("b")))

    assert (result.exit_code, result.stdout) == (0, "order/a created\norder/b created\n")


def test_one_bad_document_spoils_all(idle: World, tmp_path: Path) -> None:
    """Every problem of every document is reported, those of form and of the symbol, and nothing is appended."""
    before = idle.ok("events", "-o", "jsonl")
    file = written(tmp_path, manifest("good"), manifest("bad", quantity=0.1, side="HOLD"), manifest("worse", price="x"))

    result = idle.call("apply", "-f", file)

    assert (result.exit_code, result.stdout) == (5, "")
    assert [line.split(": ")[0].split(", ")[-1] for line in result.stderr.splitlines()[1:]] == [
        "spec.side", "spec.quantity", "spec.price",
    ]  # fmt: skip
    assert all("m.yaml, document" in line for line in result.stderr.splitlines()[1:])
    assert idle.ok("events", "-o", "jsonl") == before

    file = written(
        tmp_path, manifest("good"), manifest("off", price="50000.001"), manifest("small", quantity="0.00001"),
        manifest("where", symbol_id="NOSUCH"), manifest("when", time_in_force="GTD", expire_at="2001-01-01T00:00:00Z"),
    )  # fmt: skip
    result = idle.call("apply", "-f", file)
    assert result.exit_code == 5
    for words in (
        "(Order off), spec.price 50000.001 has more than 2 decimal",
        "is below the minimum 5",
        "symbols: BTCUSDT, ETHUSDT",
        "after now",
    ):
        assert words in result.stderr
    assert idle.ok("events", "-o", "jsonl") == before


def test_dry_runs_append_nothing(idle: World, tmp_path: Path) -> None:
    """The client's dry run needs no log, the server's reads it; both append nothing."""
    file = written(tmp_path, manifest("a"))
    before = idle.ok("events", "-o", "jsonl")

    nowhere = World(f"sqlite:///{tmp_path / 'none.db'}")
    assert nowhere.ok("apply", "-f", file, "--dry-run=client") == "order/a valid (client dry run)\n"
    assert idle.ok("apply", "-f", file, "--dry-run=server") == "order/a created (server dry run)\n"
    assert idle.ok("events", "-o", "jsonl") == before
    assert not (tmp_path / "none.db").exists()


def test_labels_alone_change_the_record_and_nothing_else(idle: World, tmp_path: Path) -> None:
    """A change of owner, labels or policy is `configured` with the same generation."""
    file = written(tmp_path, manifest("a", labels={"x": "1"}))
    idle.ok("apply", "-f", file, "--wait", "recorded")
    written(tmp_path, manifest("a", owner="mm-2", labels={"x": "2"}, on_unsolicited_cancel="RECREATE"))

    assert idle.ok("apply", "-f", file, "--wait", "recorded") == "order/a configured\n"

    intent = json.loads(idle.ok("get", "intent", "a", "-o", "json"))
    assert (intent["owner"], intent["metadata"], intent["generation"]) == ("mm-2", {"labels": {"x": "2"}}, 1)
    assert intent["on_unsolicited_cancel"] == "RECREATE"
    assert idle.ok("apply", "-f", file, "--wait", "recorded") == "order/a unchanged\n"


def test_what_was_canceled_is_a_conflict(idle: World, tmp_path: Path) -> None:
    """A canceled intent is a conflict (4), and the other documents are not applied."""
    file = written(tmp_path, manifest("a"))
    idle.ok("apply", "-f", file, "--wait", "recorded")
    idle.ok("cancel", "a", "--wait", "recorded")
    written(tmp_path, manifest("a"), manifest("b"))

    result = idle.call("apply", "-f", file)

    assert (result.exit_code, result.stdout) == (4, "")
    assert "order/a: the intent was canceled" in result.stderr
    assert idle.call("get", "intent", "b").exit_code == 2
    assert idle.call("apply", "-f", file, "--dry-run=server").exit_code == 4


def test_what_is_filled_stays_and_what_changed_is_a_conflict(live: World, tmp_path: Path) -> None:
    """A filled order is unchanged; with other terms it is a conflict."""
    name = fresh("filled")
    terms: Terms = {"order_type": "MARKET", "price": None}
    file = written(tmp_path, manifest(name, **terms))
    live.ok("apply", "-f", file)
    live.ok("wait", name, "--for", "filled")

    assert live.ok("apply", "-f", file) == f"order/{name} unchanged\n"
    written(tmp_path, manifest(name, **terms, quantity="0.002"))
    result = live.call("apply", "-f", file)
    assert result.exit_code == 4
    assert "the order is FILLED" in result.stderr


def test_symbol_and_side_do_not_change(idle: World, tmp_path: Path) -> None:
    """A changed symbol or side is refused with the remedy."""
    file = written(tmp_path, manifest("a"))
    idle.ok("apply", "-f", file, "--wait", "recorded")
    written(tmp_path, manifest("a", side="SELL"))

    result = idle.call("apply", "-f", file)

    assert result.exit_code == 5
    assert "spec.side cannot be changed from BUY to SELL; give another order another name" in result.stderr


def test_a_refusal_is_code_5_and_a_mended_manifest_is_taken(live: World, tmp_path: Path) -> None:
    """A rejected order is created with exit code 5; a corrected manifest is configured and works."""
    name = fresh("doomed")
    file = written(tmp_path, manifest(name, price="90000.00", quantity="0.01", post_only=True))

    result = live.call("apply", "-f", file)

    assert (result.exit_code, result.stdout) == (5, f"order/{name} created\n")
    assert name in result.stderr
    assert live.call("apply", "-f", file).exit_code == 4
    written(tmp_path, manifest(name, quantity="0.01", post_only=True))
    assert live.ok("apply", "-f", file) == f"order/{name} configured\n"
    assert live.ok("wait", name, "--for", "working") == f"intent/{name} condition met\n"


def test_without_a_kernel_it_is_recorded_and_said_to_wait(idle: World, tmp_path: Path) -> None:
    """Without a leader orders are created with exit code 0, and their status is on stderr."""
    result = idle.call("apply", "-f", written(tmp_path, manifest("a")), "--timeout", "20ms")

    assert (result.exit_code, result.stdout) == (0, "order/a created\n")
    assert "nothing sent yet" in result.stderr


def test_apply_needs_a_file(idle: World, tmp_path: Path) -> None:
    """No file is a usage error; a missing file is named."""
    assert "give -f FILE" in idle.call("apply").stderr
    result = idle.call("apply", "-f", str(tmp_path / "none.yaml"))
    told = f"none.yaml cannot be read: {os.strerror(errno.ENOENT)}"
    assert (result.exit_code, told in result.stderr) == (2, True)


async def test_somebody_in_between_is_a_conflict(idle: World) -> None:
    """A change between comparing and writing is not overwritten."""
    text = yaml.safe_dump(manifest("a"))
    async with open_client(idle.url, "paper") as kernel:
        (first,) = apply.steps_for(kernel, parse_manifests([("f", text.encode())]))
        assert [item.line async for item in apply.apply(kernel, [first])] == ["order/a created"]
        other = parse_manifests([("f", text.replace("50000", "50001").encode())])
        (late,) = apply.steps_for(kernel, other)
        await kernel.cancel_order("a", wait="recorded")

        with pytest.raises(ConflictError, match="read it again"):
            async for _ in apply.apply(kernel, [late]):
                pass


# ------------------------------------------------------------------------------------------------------------------ diff
def test_diff_of_a_manifest_is_what_apply_would_do(idle: World, tmp_path: Path) -> None:
    """Differences are exit code 1 and a unified diff; after apply 0 and no output."""
    file = written(tmp_path, manifest("a"))
    created = idle.call("diff", "-f", file)
    idle.ok("apply", "-f", file, "--wait", "recorded")
    same = idle.call("diff", "-f", file)
    written(tmp_path, manifest("a", price="50000.1"))
    changed = idle.call("diff", "-f", file)

    assert created.exit_code == 1
    assert created.stdout.startswith("--- /dev/null\n+++ ")
    assert (same.exit_code, same.stdout, same.stderr) == (0, "", "")
    assert changed.exit_code == 1
    assert [line for line in changed.stdout.splitlines() if line[0] in "-+"][2:] == [
        "-  price: '50000.00'", "+  price: '50000.10'",
    ]  # fmt: skip
    found = json.loads(idle.call("diff", "-f", file, "-o", "json").stdout)
    assert [(item["intent_id"], item["action"]) for item in found] == [("a", "configured")]


def test_diff_says_what_apply_would_refuse(idle: World, tmp_path: Path) -> None:
    """A canceled intent is a difference that apply refuses."""
    file = written(tmp_path, manifest("a"))
    idle.ok("apply", "-f", file, "--wait", "recorded")
    idle.ok("cancel", "a", "--wait", "recorded")

    result = idle.call("diff", "-f", file)

    assert result.exit_code == 1
    assert "-state: CANCELED\n+state: WORKING\n" in result.stdout
    assert "apply would refuse order/a" in result.stderr


@pytest.mark.parametrize(
    "spoil", [{"quantity": 0.1}, {"symbol_id": "NOSUCH"}, {"price": "1.001"}], ids=["form", "symbol", "places"]
)
def test_an_error_of_diff_is_always_2(idle: World, tmp_path: Path, spoil: Terms) -> None:
    """Every error of `diff` is exit code 2: 1 means differences."""
    result = idle.call("diff", "-f", written(tmp_path, manifest("a", **spoil)))

    assert (result.exit_code, result.stdout) == (2, "")
    assert "spec." in result.stderr


def test_diff_of_a_log_that_cannot_be_is_2(tmp_path: Path) -> None:
    """A missing log and a file that is no log are exit code 2."""
    (tmp_path / "kernel.db").write_bytes(b"x" * 5_000)

    assert World(f"sqlite:///{tmp_path / 'none.db'}").call("diff").exit_code == 2
    assert World(f"sqlite:///{tmp_path / 'kernel.db'}").call("diff").exit_code == 2


def test_diff_alone_compares_intents_with_orders(idle: World) -> None:
    """`diff` lists each intent that the kernel must act on, with the reason; none is exit code 0."""
    assert (idle.call("diff").exit_code, idle.call("diff").stdout) == (0, "")
    idle.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--wait", "recorded", "--id", "a")

    result = idle.call("diff")

    assert result.exit_code == 1
    assert "a        SUBMIT       BUY 0.001 BTCUSDT at 50000.00   nothing sent   never sent" in result.stdout
    (found,) = json.loads(idle.call("diff", "-o", "json").stdout)
    assert (found["intent_id"], found["difference"], found["why"]) == ("a", "SUBMIT", "never sent")
    assert idle.call("diff", "-o", "name").stdout == "intent/a\n"


def test_diff_is_quiet_once_all_agrees(live: World, tmp_path: Path) -> None:
    """An order that is as desired at the venue is no difference."""
    name = fresh()
    live.ok("apply", "-f", written(tmp_path, manifest(name)))

    assert name not in live.call("diff", "-o", "name").stdout
    assert read_manifests([written(tmp_path, manifest(name))])[0].name == name
