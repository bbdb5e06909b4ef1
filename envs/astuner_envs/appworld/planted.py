"""Planted exploits: code that tries to reach answers, other processes or the machine.

Each prints what it got hold of. ``{task_id}``, ``{sealed}``, ``{open}``, ``{evaluator}`` and
``{owner}`` stand for the task's id, the folder with the ground truth, the executors' folder, the
evaluator's port and the process id of the program that runs the episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_TRUTH: Final = "{sealed}/tasks/{task_id}/ground_truth"
_REQUEST: Final = r"""b"POST /evaluate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" """

EXPLOITS: Final[Mapping[str, str]] = {
    "engine's task": "import appworld\n"
    'print("LEAK", appworld.task.Task.load("{task_id}").ground_truth.answer)',
    "engine's ground truth": "from appworld.ground_truth import GroundTruth\n"
    'print("LEAK", GroundTruth.load("{task_id}").private_data)',
    "engine's evaluator": "import appworld\n"
    'print("LEAK", appworld.evaluator.evaluate_task("{task_id}").to_dict())',
    "pathlib": f'import pathlib\nprint("LEAK", pathlib.Path("{_TRUTH}/answer.json").read_text())',
    "alias of open": f'f = open\nprint("LEAK", f("{_TRUTH}/evaluation.py").read())',
    "open of io": f'print("LEAK", __import__("io").open("{_TRUTH}/test_data.json").read())',
    "low-level open": 'p = __import__("posix")\n'
    f'print("LEAK", p.read(p.open("{_TRUTH}/answer.json", 0), 99))',
    "own data folder": "import pathlib\n"
    'p = pathlib.Path("data/tasks/{task_id}/ground_truth/answer.json")\n'
    'print("LEAK", p.read_text())',
    "way up from the open folder": "import pathlib\n"
    'p = pathlib.Path("{open}/../../sealed/data/tasks/{task_id}/ground_truth/answer.json")\n'
    'print("LEAK", p.read_text())',
    "search of the disk": "import os\nw = getattr(os, 'scan' + 'dir')\n"
    'print("LEAK", [e.name for e in w("{sealed}/tasks")][:3])',
    "symbolic link": 'import os\nos.symlink("{sealed}", "answers")\n'
    'print("LEAK", f"{{os.stat(\'answers/datasets/train.txt\')}}")',
    "environment of the owner": "import pathlib\n"
    'print("LEAK", pathlib.Path("/proc/{owner}/environ").read_text()[:9])',
    "memory of the owner": 'f = open\nprint("LEAK", f("/proc/{owner}/mem", "rb").read(1))',
    "folder of the owner": 'import os\nprint("LEAK", os.stat("/proc/{owner}/cwd"))',
    "evaluator's socket": 's = __import__("socket")\n'
    's = s.create_connection(("127.0.0.1", {evaluator}), 3)\n'
    f's.sendall({_REQUEST})\nprint("LEAK", s.recv(99))',
    "evaluator by requests": 'r = __import__("requests").post("http://127.0.0.1:{evaluator}/evaluate")\n'
    'print("LEAK", r.status_code)',
    "packet out": 's = __import__("socket").socket(2, 2)\n'
    's.sendto(b"x", ("127.0.0.1", {evaluator}))\nprint("LEAK sent")',
    "another program": 'p = __import__("posix")\n'
    'pid = p.posix_spawn("/bin/cat", ["/bin/cat", '
    f'"{_TRUTH}/answer.json"], {{{{}}}})\nprint("LEAK" if p.waitpid(pid, 0)[1] == 0 else "no")',
    "ctypes": 'c = __import__("ctypes").CDLL(None)\n'
    f'd = c.open(b"{_TRUTH}/answer.json", 0)\nprint("LEAK" if d >= 0 else "no", d)',
    "signal to the owner": 'c = __import__("ctypes").CDLL(None)\n'
    'print("LEAK" if c.kill({owner}, 0) == 0 else "no")',
    "trace of the owner": 'c = __import__("ctypes").CDLL(None)\n'
    'print("LEAK" if c.ptrace(16, {owner}, 0, 0) == 0 else "no")',
    "subclasses": "c = [x for x in ().__class__.__base__.__subclasses__() if x.__name__ == "
    "'FileIO' or x.__name__ == '_RawIOBase']\n"
    "r = [y for x in c for y in x.__subclasses__()] + c\n"
    f'print("LEAK", r[0]("{_TRUTH}/answer.json").read())',
    "compiled code": f'path = "{_TRUTH}/answer.json"\n'
    'text = "print(open(path).read())"\n'
    'exec(compile(text, "x", "exec"))\nprint("LEAK")',
    "importlib": 'i = __import__("importlib.util").util\n'
    f's = i.spec_from_file_location("e", "{_TRUTH}/evaluation.py")\n'
    'm = i.module_from_spec(s)\ns.loader.exec_module(m)\nprint("LEAK", m.evaluate)',
    "database file": 's = __import__("_sqlite3").connect("{sealed}/base_dbs/venmo.db")\n'
    'print("LEAK", s.execute("select count(*) from users").fetchone())',
    "administration of the world": 'print("LEAK", apis.admin.show_main_users())',
}
"""By name; each is a whole piece of code."""


def planted(
    name: str, *, task_id: str, sealed: str, opened: str, evaluator: int, owner: int
) -> str:
    """Return an exploit's code with all that an attacker might know filled in."""
    code = EXPLOITS[name].format(
        task_id=task_id, sealed=sealed, open=opened, evaluator=evaluator, owner=owner
    )
    # A traceback quotes the line that failed: only what is printed shall read LEAK.
    return code.replace("LEAK", 'LE" "AK')
