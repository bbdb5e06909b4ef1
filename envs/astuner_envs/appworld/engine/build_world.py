"""Builds a mini world with AppWorld's own code: ``build_world.py ROOT < plan.json``.

ROOT gets ``data`` as AppWorld lays it out, ground truth included.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

NOW = "2023-05-18T12:00:00"


def main() -> None:
    """Build the world that standard input describes."""
    root = Path(sys.argv[1]).absolute()
    plan = json.load(sys.stdin)
    os.environ["APPWORLD_ROOT"] = str(root)
    (root / "data").mkdir(parents=True)
    os.chdir(root)

    from appworld.apps.api_lib import set_local_date_and_time
    from appworld.common.datetime import DateTime

    set_local_date_and_time(DateTime.fromisoformat(NOW))
    _base(root / "data", plan)
    for index, task in enumerate(plan["tasks"]):
        _task(root / "data", plan, task)
        if (index + 1) % 200 == 0:
            print(f"{index + 1} of {len(plan['tasks'])} tasks", file=sys.stderr, flush=True)
    _datasets(root / "data", plan)


def _base(data: Path, plan: dict) -> None:
    """Databases in which everybody has an account, and the documents of all APIs."""
    from appworld.api_docs import prepare_api_docs
    from appworld.apps import get_all_apps
    from appworld.apps.api_lib import save_local_dbs, set_local_dbs
    from appworld.apps.model_lib import CachedDBHandler
    from appworld.common.constants import CANARY_STRING
    from appworld.common.utils import import_models_module

    apps = get_all_apps()
    home = ":memory:base"
    set_local_dbs(to_db_home_path=home, create=True)
    admin = import_models_module("admin")
    for person in plan["people"]:
        name = {key: person[key] for key in ("first_name", "last_name")}
        admin.MainUser.create_save(
            **name,
            email=person["email"],
            phone_number=person["phone_number"],
            birthday="1990-01-01",
        )
        for app in plan["apps"]:
            models = import_models_module(app)
            where = (
                {"phone_number": person["phone_number"]}
                if app == "phone"
                else {"email": person["email"], "verified": True}
            )
            if app == "venmo":
                where["venmo_balance"] = 1000.0
            user = models.User.create_save(**name, password=person["password"], **where)
            assert user.id == person["id"], (app, user.id, person["id"])
    documents = data / "api_docs" / "standard"
    documents.mkdir(parents=True)
    api_docs = import_models_module("api_docs")
    known = set(api_docs.ApiDoc.__fields__)
    for app in get_all_apps(skip_admin=True):
        by_name = {}
        for document in prepare_api_docs(app):
            by_name[document["api_name"]] = {**document, "canary_string": CANARY_STRING}
            row = {("app_name_" if k == "app_name" else k): v for k, v in document.items()}
            api_docs.ApiDoc.create_save(**{k: v for k, v in row.items() if k in known})
        (documents / f"{app}.json").write_text(json.dumps(by_name))
    save_local_dbs(home, str(data / "base_dbs"), format="full", app_names=list(apps))
    CachedDBHandler.reset()


def _task(data: Path, plan: dict, task: dict) -> None:
    """One task: its specification, its changes to the base, and its ground truth."""
    from appworld.apps import get_all_apps
    from appworld.apps.api_lib import save_local_dbs, set_local_dbs
    from appworld.apps.model_lib import CachedDBHandler
    from appworld.common.constants import CANARY_STRING, DB_VERSION
    from appworld.common.utils import import_models_module

    folder = data / "tasks" / task["id"]
    person = plan["people"][task["person"] - 1]
    apps = list(get_all_apps())
    home = ":memory:task"
    set_local_dbs(home, str(data / "base_dbs"), apps)
    for app in apps:
        import_models_module(app).SQLModel.restart_db_tracker()
    supervisor = {key: person[key] for key in ("first_name", "last_name", "email", "phone_number")}
    models = import_models_module("supervisor")
    models.Supervisor.create_save(**supervisor, birthday="1990-01-01")
    for app in plan["apps"]:
        models.AccountPassword.create_save(
            supervisor_id=1, account_name=app, password=person["password"]
        )
    models.Task.create_save(supervisor_id=1, instruction=task["instruction"])
    # In rising order of ids: SQLite's count can be set forward, a row's id cannot be set.
    kinds = list(dict.fromkeys((r["app"], r["model"]) for r in task["records"]))
    for record in sorted(
        task["records"], key=lambda r: (kinds.index((r["app"], r["model"])), r["fields"]["id"])
    ):
        _create(getattr(import_models_module(record["app"]), record["model"]), record["fields"])
    save_local_dbs(
        home, str(folder / "dbs"), format="changes", app_names=apps, save_model_hashes=True
    )
    CachedDBHandler.reset()
    specification = {
        "instruction": task["instruction"],
        "supervisor": supervisor,
        "datetime": NOW,
        "db_version": DB_VERSION,
        "canary_string": CANARY_STRING,
    }
    (folder / "specs.json").write_text(json.dumps(specification))
    truth = folder / "ground_truth"
    truth.mkdir()
    contents = {
        "metadata": {
            "mode": "minimal",
            "difficulty": 1,
            "num_apps": 1,
            "num_apis": 3,
            "num_api_calls": 3,
            "num_solution_code_lines": 4,
        },
        "public_data": {},
        "private_data": {"changes": task["changes"]},
        "answer": task["answer"],
        "test_data": task["test_data"],
    }
    for name, content in contents.items():
        (truth / f"{name}.json").write_text(json.dumps(content))
    (truth / "evaluation.py").write_text(task["evaluation"])


def _create(model: type, fields: dict) -> None:
    """Create a row with the id that is wanted; fields that end in ``_at`` are times."""
    from appworld.common.datetime import DateTime
    from sqlalchemy import text
    from sqlmodel import Session

    values = {k: DateTime.fromisoformat(v) if k.endswith("_at") else v for k, v in fields.items()}
    id_ = values.pop("id")
    with Session(model.db.engine) as session:
        table = {"name": model.__table__.name, "seq": id_ - 1}
        session.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), table)
        session.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :seq)"), table)
        session.commit()
    row = model.create_save(**values)
    assert row.id == id_, (model, row.id, id_)


def _datasets(data: Path, plan: dict) -> None:
    folder = data / "datasets"
    folder.mkdir()
    for split in dict.fromkeys(task["split"] for task in plan["tasks"]):
        ids = [task["id"] for task in plan["tasks"] if task["split"] == split]
        (folder / f"{split}.txt").write_text("".join(f"{id_}\n" for id_ in ids))


if __name__ == "__main__":
    main()
