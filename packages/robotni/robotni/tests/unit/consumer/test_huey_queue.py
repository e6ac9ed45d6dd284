"""Tickets, and what robotni relies on in Huey."""

import json
import pickle
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Iterator

import pytest
from huey import SqliteHuey
from huey.registry import Message

from robotni.consumer.huey_queue import JsonSerializer, RobotniHuey
from robotni.jobs.request import JobRequest
from robotni.storage.queue_messages import EXPIRES, FIELDS, RUN_JOB, JobTickets
from robotni.tests.conftest import House
from robotni.tests.processes import clean_environ

JOB_ID = "01a0c4506c0070009bf1a15d4da54d39"


def huey_of(house: House) -> RobotniHuey:
    return RobotniHuey(
        house.settings, house.store, house.datadir, house.executor, house.maintenance
    )


@pytest.fixture
def huey(house: House) -> Iterator[RobotniHuey]:
    found = huey_of(house)
    yield found
    found.storage.close()


def columns(path: Path, table: str) -> "list[tuple[str, str, int]]":
    database = sqlite3.connect(path)
    rows = database.execute(f"PRAGMA table_info({table})").fetchall()
    database.close()
    return [(name, kind.lower(), notnull) for _, name, kind, notnull, _, _ in rows]


def test_the_task_table_is_the_one_huey_makes(house: House, tmp_path: Path) -> None:
    plain = SqliteHuey("plain", filename=str(tmp_path / "plain.db"))
    plain.storage.close()
    made_by_huey = columns(tmp_path / "plain.db", "task")
    assert made_by_huey == columns(house.datadir.database, "task")
    assert [name for name, _, _ in made_by_huey] == ["id", "queue", "data", "priority"]


def test_a_ticket_is_a_task_that_huey_knows(house: House, huey: RobotniHuey) -> None:
    house.store.add_ticket(JOB_ID)
    task = huey.dequeue()
    assert (task.id, tuple(task.args)) == (JOB_ID, (JOB_ID,))
    assert huey._registry.task_to_string(type(task)) == RUN_JOB
    assert task.expires == EXPIRES
    assert timedelta(0) < task.expires_resolved - datetime.now() <= timedelta(seconds=EXPIRES)


def test_a_ticket_is_written_as_huey_would(house: House) -> None:
    assert frozenset(Message._fields) == FIELDS
    serializer, ticket = JsonSerializer(), JobTickets().encode(JOB_ID)
    assert json.loads(serializer.serialize(serializer.deserialize(ticket))) == json.loads(ticket)


def test_huey_s_own_way_of_enqueueing_makes_the_same_ticket(
    house: House, huey: RobotniHuey
) -> None:
    huey.enqueue(huey._registry.string_to_task(RUN_JOB)((JOB_ID,), {}))
    ticket = house.store.take_ticket()
    assert ticket is not None
    assert JobTickets().decode(ticket) == JOB_ID


def test_an_expired_ticket_is_written_anew(house: House, huey: RobotniHuey) -> None:
    house.store.add_ticket(JOB_ID)
    task = huey.dequeue()
    task.expires_resolved = datetime.now() - timedelta(seconds=1)
    huey.execute(task)
    ticket = house.store.take_ticket()
    assert ticket is not None
    assert JobTickets().decode(ticket) == JOB_ID


def test_a_periodic_task_cleans_at_midnight(house: House, huey: RobotniHuey) -> None:
    at = {hour: huey.read_periodic(datetime(2026, 11, 22, hour, 0)) for hour in (0, 12)}
    assert [len(at[0]), len(at[12])] == [1, 0]
    huey.enqueue(at[0][0])
    huey.execute(huey.dequeue())
    assert house.store._db.sql("SELECT count(*) FROM clean_day").fetchone() == (1,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"[1, 2]",
        b'{"id": 1, "evil": 2}',
        json.dumps({"name": "os.system", "args": ["touch bomb"]}).encode(),
        pickle.dumps(Message("1", RUN_JOB)),
        b"[" * 100_000,
        json.dumps({"id": "1", "name": RUN_JOB, "args": {"a": 1}}).encode(),
        json.dumps({"id": "1", "name": RUN_JOB, "args": [["1"]]}).encode(),
        json.dumps({"id": "1", "name": RUN_JOB, "args": 5}).encode(),
        json.dumps({"id": "1", "name": RUN_JOB, "args": ["1"], "eta": 5}).encode(),
        "text, not bytes",
        10**12,
    ],
    ids=lambda data: repr(data)[:40],
)
def test_what_is_no_ticket_runs_nothing_and_stops_nothing(
    house: House, huey: RobotniHuey, data: Any
) -> None:
    house.store._db.sql("INSERT INTO task (queue, data) VALUES ('robotni', ?)", (data,))
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    assert house.store.mend_tickets() == 0
    assert huey.dequeue() is None
    assert huey.dequeue().args == [job.job_id]
    assert house.store.take_ticket() is None


class Bomb:
    def __reduce__(self) -> "tuple[object, tuple[str]]":
        return (Path.touch, (Path("bomb"),))


def test_a_pickle_bomb_in_the_table_does_not_go_off(house: House) -> None:
    with pytest.raises(ValueError):
        JsonSerializer().deserialize(pickle.dumps(Bomb()))
    assert not Path("bomb").exists()


def test_the_web_process_starts_without_huey_and_prometheus(project: Path) -> None:
    code = (
        "import sys; from robotni.bootstrap import build_app; build_app(); "
        "print([name for name in sys.modules if name in ('huey', 'prometheus_client')])"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.check_output(command, cwd=project, env=clean_environ())
    assert said == b"[]\n"
