"""Huey's side of the queue, and what robotni relies on in Huey."""

import json
import pickle
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from huey import SqliteHuey
from huey.registry import Message

from robotni.consumer.huey_queue import JsonSerializer, RobotniHuey
from robotni.jobs.models import Job
from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House
from robotni.tests.processes import clean_environ

RUN_JOB = "robotni.run_job"


def huey_of(house: House) -> RobotniHuey:
    return RobotniHuey(
        house.settings, house.store, house.datadir, house.executor, house.maintenance
    )


def submit(house: House) -> Job:
    house.clock.now += 1  # jobs of one moment have no order
    return house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job


@pytest.fixture
def huey(house: House) -> Iterator[RobotniHuey]:
    found = huey_of(house)
    yield found
    found.storage.close()


def test_it_is_a_sqlite_huey_on_the_database_of_the_jobs(house: House, huey: RobotniHuey) -> None:
    assert isinstance(huey, SqliteHuey)
    assert Path(huey.storage.filename) == house.datadir.database


def test_what_huey_dequeues_is_the_next_pending_job(house: House, huey: RobotniHuey) -> None:
    first, second = submit(house), submit(house)
    tasks = [huey.dequeue() for _ in range(2)]
    assert [list(task.args) for task in tasks] == [[first.job_id], [second.job_id]]
    assert {huey._registry.task_to_string(type(task)) for task in tasks} == {RUN_JOB}
    assert {task.expires for task in tasks} == {3600}
    huey.execute(tasks[0])
    assert house.engine.get(first.job_id).status == "completed"


def test_the_queue_is_not_stored_a_second_time(house: House, huey: RobotniHuey) -> None:
    submit(house)
    assert house.store._db.sql("SELECT count(*) FROM task").fetchone() == (0,)


def test_a_task_that_huey_enqueues_itself_is_run(house: House, huey: RobotniHuey) -> None:
    called: List[int] = []
    own = huey.task()(called.append)
    own(5)
    huey.execute(huey.dequeue())
    assert called == [5]


def test_a_job_that_huey_enqueues_by_its_id_is_run_once(house: House, huey: RobotniHuey) -> None:
    job = submit(house)
    task = huey._registry.string_to_task(RUN_JOB)((job.job_id,), {})
    for _ in range(2):
        huey.execute(task)
    ended = house.engine.get(job.job_id)
    assert (ended.status, ended.attempt) == ("completed", 1)


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
)
def test_a_row_that_is_no_message_runs_nothing_and_stops_nothing(
    house: House, huey: RobotniHuey, data: Any
) -> None:
    house.store._db.sql("INSERT INTO task (queue, data) VALUES ('robotni', ?)", (data,))
    consumer = huey.create_consumer(workers=1)
    worker, _ = consumer.worker_threads[0]
    consumer.stop_flag.set()  # so that it does not pause after an error
    worker.loop()
    assert house.store._db.sql("SELECT count(*) FROM task").fetchone() == (0,)
    job = submit(house)
    worker.loop()
    assert house.engine.get(job.job_id).status == "completed"


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
