# SPDX-License-Identifier: MIT
"""`python -m bench.real_jobs --clones DIR [CASE ...]`: jobs and definitions of others, run unchanged.

DIR has git clones of their repositories; the commit of each case is checked out of them into a
temporary folder, so that nothing in DIR is changed. Every device is isolated. Where a job calls what
simulated devices do not have, a program of `bench/stand_ins` is in their PATH. Prints a Markdown table;
exit status 1 if a case came out otherwise than it says here, 2 if one could not be run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STAND_INS = Path(__file__).parent / "stand_ins"
ROOT = Path(__file__).parent.parent

LINARO = "https://github.com/Linaro/test-definitions.git"
FUNCTIONAL = "https://github.com/Linaro/lava-functional-tests.git"
LAVA = "https://github.com/Linaro/lava.git"
RVCK = "https://github.com/RVCK-Project/lavaci.git"
BOOTLIN_TESTS = "https://github.com/bootlin/test_suite.git"
BOOTLIN_TOOL = "https://github.com/bootlin/custom_tests_tool.git"
OMNIUM = "https://github.com/omnium21/test-definitions.git"
PLAYGROUND = "https://github.com/alexander-sowarka/lava-test-playground.git"
HELLBENT = "https://github.com/hellbentv/lava-tests.git"

# The newest commit of each that was to be had; cases on older ones say so.
COMMITS = {
    LINARO: "4212946b414ed0a3d305e054f973d423ef0e00b9",
    FUNCTIONAL: "f9f9294b6820ec9b5d4febb5ad3f45d4a65a33f9",
    LAVA: "d27bcfdb59c6b0cd670164fafb04d03a75ff002a",
    RVCK: "8ebc78955f5ca152b16890d1ba3dac98321c8ea8",
    BOOTLIN_TESTS: "8164498f477c46555dca6e6df86e22508320f4b8",
    BOOTLIN_TOOL: "c09f4bd3e178ce5218f6d8c88f04cc300b9c4334",
    PLAYGROUND: "5ea14a266c7b5ad37af922e0523754ca619c5ec4",
    HELLBENT: "b8f928a87a9b51f02ebcc39dddde21d8aa6c8d16",
}
# The last with lava-network in the definitions, of 2016.
FUNCTIONAL_2016 = "34a03309ee0acff7d8b65ac00434a738d914ad40"
# The last whose script keeps to POSIX, of October 2020: /bin/sh need not be bash.
OMNIUM_2020 = "26f6f5d"

_PERFORMANCE = "lava-testcases/performance-test"
_NO_NETWORK = ("apt-get", "ntpdate-debian", "curl")


@dataclass(frozen=True)
class Case:
    """What is run, and what comes of it.

    :param clones: commits by URL; `{0}`, `{1}`, ... in `arguments` are their folders, `{ours}` is ours.
    :param commands: which of the multi-device commands it uses.
    :param stand_ins: programs of `bench/stand_ins`.
    :param stood_in: the same in words, and what else is not as at the author's.
    :param needs: programs that have to be on this machine.
    :param expected: of each device, how many results pass and fail.
    :param failing: the ids that fail, which `why` explains.
    :param failing_runs: test runs that fail or do not end, which `why` explains, too.
    :param status: of the whole run.
    :param timeout: seconds for the run.
    :param template: variables of the job, if it is a Jinja template; it is then `{job}`.
    """

    name: str
    clones: Mapping[str, str]
    kind: str
    arguments: Sequence[str]
    commands: str
    expected: Mapping[str, tuple[int, int]]
    stand_ins: Sequence[str] = ()
    stood_in: str = "nothing"
    needs: Sequence[str] = ()
    failing: frozenset[str] = frozenset()
    why: str = ""
    failing_runs: frozenset[str] = frozenset()
    status: int = 0
    timeout: int = 300
    environment: Mapping[str, str] = field(default_factory=dict)
    template: tuple[str, Mapping[str, str]] | None = None


def _at(*urls: str) -> dict[str, str]:
    return {url: COMMITS[url] for url in urls}


def _role(role: str, path: str) -> tuple[str, str]:
    return "--role", f"{role}={path}"


def _repo(url: str, number: int) -> tuple[str, str]:
    return "--repo", f"{url}={{{number}}}"


CASES = [
    Case(
        "iperf",
        _at(LINARO),
        "complete job",
        ["{0}/automated/linux/iperf/lava-multinode-job-example-iperf.yaml", *_repo(LINARO, 0)],
        "send, wait, echo-ipv4",
        {"server-1": (1, 0), "client-1": (2, 0)},
        ["apt-get", "iperf3"],
        "`apt-get`; `iperf3 -c` begins 2 s later, as the job says that the server is ready before it is",
        ["/usr/bin/iperf3"],
    ),
    Case(
        "second-job",
        _at(LAVA),
        "complete job",
        ["{0}/doc/v2/examples/test-jobs/second-multinode-job.yaml"],
        "send, wait",
        {"server-1": (1, 0), "client-1": (1, 0), "client-2": (1, 0)},
        ["apt", "dpkg"],
        "`apt`, `dpkg`: apache2 is not really installed",
    ),
    Case(
        "first-job",
        _at(LAVA, FUNCTIONAL),
        "complete job",
        [
            "{0}/doc/v2/examples/test-jobs/first-multinode-job.yaml",
            *_repo("http://git.linaro.org/lava-team/lava-functional-tests.git", 1),
        ],
        "role, self, send, wait-all, sync, group",
        {"foo-1": (11, 0), "bar-1": (11, 0)},
        needs=["netstat", "ifconfig", "vmstat", "lscpu", "lsb_release"],
    ),
    Case(
        "ssh-guests",
        _at(LAVA, FUNCTIONAL),
        "complete job",
        [
            "{0}/doc/v2/examples/test-jobs/mustang-ssh-guest.yaml",
            *_repo("http://git.linaro.org/lava-team/lava-functional-tests.git", 1),
        ],
        "lava-start and a wait as requests, send, sync, echo-ipv4",
        {"host-1": (15, 3), "guest-1": (12, 0), "guest-2": (12, 0), "guest-3": (12, 0)},
        ["curl"],
        "`curl`; no ssh: the guests are devices like the host",
        ["netstat", "ifconfig", "route", "ping", "vmstat", "lscpu", "lsb_release"],
        frozenset({"nfs-dns", "resolv", "ping-test"}),
        "no NFS root, no name server; the guests list the archive with which LAVA's ssh deployment came",
        frozenset({"1_ssh-client"}),
        status=1,
    ),
    Case(
        "bootlin-network",
        _at(BOOTLIN_TOOL, BOOTLIN_TESTS),
        "complete job, a template",
        ["{job}", *_repo("git://github.com/free-electrons/test_suite.git", 1)],
        "lava-start, role, 9 send, 8 wait in functions",
        {"board-1": (1, 0), "laptop-1": (1, 0)},
        ["ip", "iperf"],
        "`ip route get` of BusyBox; `iperf` without the headings of version 2.1; the template filled in",
        ["/usr/bin/iperf", "ping", "killall", "busybox"],
        template=(
            "{0}/src/jobs_templates/generic_multinode_job.jinja",
            {"job_name": "network", "device_type": "beaglebone-black", "timeout": "10", "test": "network"},
        ),
    ),
    Case(
        "functional-2",
        _at(FUNCTIONAL),
        "definition",
        ["{0}/lava-test-shell/multi-node/multinode02.yaml", "--role", "server", "--role", "client*2"],
        "role, self, sync, send, wait-all, group",
        {"server-1": (11, 0), "client-1": (11, 0), "client-2": (11, 0)},
        _NO_NETWORK,
        "`apt-get`, `ntpdate-debian`, `curl`",
        ["netstat", "ifconfig", "route"],
    ),
    Case(
        "lava-network",
        {FUNCTIONAL: FUNCTIONAL_2016},
        "definition",
        ["{0}/lava-test-shell/multi-node/multinode02.yaml", "--role", "server", "--role", "client*2"],
        "lava-network broadcast, collect, query, hosts, alias-hosts; role, self, sync, send, wait-all, group",
        {"server-1": (32, 0), "client-1": (32, 0), "client-2": (32, 0)},
        _NO_NETWORK,
        "`apt-get`, `ntpdate-debian`, `curl`",
        ["netstat", "ifconfig", "route", "ping", "perl"],
    ),
    Case(
        "lava-network-3",
        {FUNCTIONAL: FUNCTIONAL_2016},
        "definition",
        ["{0}/lava-test-shell/multi-node/multinode03.yaml", "--role", "server*2", "--role", "client*4"],
        "as lava-network, 6 devices",
        {
            f"{role}-{number}": (31, 0)
            for role, count in (("server", 2), ("client", 4))
            for number in range(1, count + 1)
        },
        _NO_NETWORK,
        "`ntpdate-debian`, `curl`",
        ["netstat", "ifconfig", "route", "ping", "perl", "realpath"],
    ),
    Case(
        "smoke",
        _at(FUNCTIONAL),
        "definition",
        ["{0}/lava-test-shell/multi-node/smoke-tests-multinode.yaml", "--role", "target*3"],
        "role, self, sync, send, wait, wait-all, group, all but one in lava-test-case",
        {f"target-{number}": (25, 1) for number in (1, 2, 3)},
        ["apt-get", "dhclient", "lspci", "lsusb"],
        "`apt-get`, `dhclient`, `lspci`, `lsusb`",
        ["netstat", "ifconfig", "route", "ping", "vmstat", "lscpu", "lsb_release"],
        frozenset({"linux-linaro-ubuntu-ping"}),
        "it asks for 192.168.1.10, a machine of the author's lab",
        status=1,
    ),
    Case(
        "ping",
        _at(PLAYGROUND),
        "definitions",
        [
            *_role("server", "{0}/multinode/multinode-server.yaml"),
            *_role("client", "{0}/multinode/multinode-client.yaml"),
        ],
        "send, wait, echo-ipv4",
        {"server-1": (0, 0), "client-1": (1, 0)},
        needs=["ping"],
    ),
    Case(
        "rvck-qperf",
        _at(RVCK),
        "definitions",
        [
            *_role("server", f"{{0}}/{_PERFORMANCE}/qperf/qperf-server.yaml"),
            *_role("client", f"{{0}}/{_PERFORMANCE}/qperf/qperf-tcpudp-client.yaml"),
            *("--param", "TIME=2"),
        ],
        "send, wait, echo-ipv4",
        {"server-1": (1, 0), "client-1": (5, 0)},
        ["dnf"],
        "`dnf`",
        ["qperf", "ss"],
    ),
    Case(
        "rvck-iperf",
        _at(RVCK),
        "definitions",
        [
            *_role("server", f"{{0}}/{_PERFORMANCE}/iperf/iperf-server.yaml"),
            *_role("client", f"{{0}}/{_PERFORMANCE}/iperf/iperf-client.yaml"),
            *("--param", "TIME=2"),
        ],
        "send, wait, echo-ipv4",
        {"server-1": (1, 0), "client-1": (2, 0)},
        ["dnf", "systemctl", "iperf3"],
        "`dnf`; `systemctl`: there is no firewall; `iperf3 -c` begins 2 s later",
        ["/usr/bin/iperf3", "ping", "netstat"],
    ),
    Case(
        "omnium21",
        {OMNIUM: OMNIUM_2020},
        "definition, 7 times",
        ["{ours}/omnium21.yaml", *_repo(OMNIUM, 0)],
        "5 ids, sent again and again with other data; waits in a loop",
        {"server-1": (1, 0), "client-1": (8, 0)},
        ["apt-get", "iperf3"],
        "`apt-get`; `iperf3 -c` begins 2 s later; a job of ours that says who does what, with pauses of 2 s, as "
        "requests are told apart by the second",
        ["/usr/bin/iperf3", "ping", "ifconfig"],
        timeout=60,
    ),
    Case(
        "phones",
        _at(LINARO),
        "definitions, 5",
        ["{ours}/android.yaml", *_repo(LINARO, 0)],
        "3 sync, send without data, wait-all; names as identities",
        {"master-1": (0, 0), "worker-1": (0, 0), "worker-2": (0, 0)},
        ["adb"],
        "`adb`: a phone that is always there; a job of ours that says who does what",
    ),
    Case(
        "relays",
        _at(HELLBENT),
        "definitions",
        [
            *_role("test", "{0}/multinode/odroid-smartpower-pirelay.yaml"),
            *_role("measure", "{0}/multinode/odroid-smartpower-measure.yaml"),
        ],
        "role and sync in lava-test-case",
        {"test-1": (21, 0), "measure-1": (4, 0)},
        ["wget", "ssh", "scp"],
        "`wget`, `ssh`, `scp`: no relays; HOME=/srv, as theirs has no .ssh yet",
        environment={"HOME": "/srv"},
    ),
]


class Unable(Exception):
    """A case cannot be run here; says what to do."""


def folder_of(url: str) -> str:
    """What the clone of this URL is called, as `Linaro-lava`."""
    owner, repository = url.removesuffix(".git").split("/")[-2:]
    return f"{owner}-{repository}"


def check_out(url: str, commit: str, clones: Path, scratch: Path) -> Path:
    """The files of that commit, in a clone of the clone. Raises Unable."""
    clone = clones / folder_of(url)
    if not clone.is_dir():
        raise Unable(f"git clone {url} {clone}")
    copy = scratch / folder_of(url)
    if not copy.exists():
        for command in (
            ["git", "clone", "-q", "--no-checkout", str(clone), str(copy)],
            ["git", "-C", str(copy), "checkout", "-q", commit],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Unable(f"{' '.join(command)}: {done.stderr.strip()}")
    return copy


def fill_in(template: Path, variables: Mapping[str, str], to: Path) -> Path:
    """The job that a Jinja template is for. Raises Unable."""
    try:
        from jinja2 import Template
    except ImportError:
        raise Unable("pip install jinja2") from None
    to.write_text(Template(template.read_text()).render(variables))
    return to


def run(case: Case, clones: Path, faults: str | None, logs: Path | None) -> tuple[bool, str]:
    """Whether it came out as expected, and a sentence about that. Raises Unable."""
    missing = [program for program in case.needs if shutil.which(program) is None]
    if missing:
        raise Unable(f"install {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="real-jobs-", dir=clones) as temporary:
        scratch = Path(temporary)
        folders = [str(check_out(url, commit, clones, scratch)) for url, commit in case.clones.items()]
        names = {"ours": str(STAND_INS)}
        if case.template is not None:
            path, variables = case.template
            names["job"] = str(fill_in(Path(path.format(*folders)), variables, scratch / "job.yaml"))
        programs = scratch / "programs"
        programs.mkdir()
        for name in case.stand_ins:
            shutil.copy(STAND_INS / name, programs)
        arguments = [argument.format(*folders, **names) for argument in case.arguments]
        if faults:
            arguments += ["--faults", faults, "--seed", "7"]
        results = scratch / "results.json"
        environment = {**os.environ, **case.environment}
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        environment["PYTHONPATH"] = str(ROOT)
        options = ["sim", "--isolate", "--timeout", str(case.timeout), "--results", str(results)]
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "dispatcher", *options, *arguments],
            cwd=scratch,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.monotonic() - begun
        if logs is not None:
            (logs / f"{case.name}{'-faults' if faults else ''}.txt").write_text(done.stdout)
        if not results.exists():
            return False, done.stdout.strip().splitlines()[-1]
        wrong = differences(case, json.loads(results.read_text()), done.returncode)
    if wrong:
        return False, "; ".join(wrong)
    passed = sum(passed for passed, _ in case.expected.values())
    failed = sum(failed for _, failed in case.expected.values())
    counts = (
        f"{passed} pass" + (f", {failed} fail" if failed else "") if passed or failed else "all runs end well"
    )
    return True, f"{counts}, {seconds:.0f} s"


def differences(case: Case, results: dict, status: int) -> list[str]:
    """What is otherwise than expected."""
    wrong = [] if status == case.status else [f"exit status {status} instead of {case.status}"]
    devices = {device["name"]: device for device in results["devices"]}
    if set(devices) != set(case.expected):
        return [*wrong, f"devices {sorted(devices)}"]
    for name, device in devices.items():
        counted = Counter(result["result"] for result in device["results"])
        if counted != Counter({"pass": case.expected[name][0], "fail": case.expected[name][1]}):
            wrong.append(f"{name}: {dict(counted)} instead of {case.expected[name]}")
        failed = {result["id"] for result in device["results"] if result["result"] == "fail"}
        wrong += [f"{name}: {id} failed" for id in sorted(failed - case.failing)]
        for run_ in device["runs"]:
            bad = run_["ended_early"] or run_["status"] != 0
            if bad != (run_["name"] in case.failing_runs):
                wrong.append(f"{name}: run {run_['name']} ended with status {run_['status']}")
        malformed = device["malformed_signals"]["count"]
        if malformed:
            wrong.append(f"{name}: {malformed} malformed signals")
    return wrong


def main() -> int:
    """Run the cases and print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.real_jobs", description=__doc__.split("\n\n")[1])
    parser.add_argument("--clones", metavar="DIR", type=Path, required=True, help="where the clones are")
    parser.add_argument("--faults", help="run each a second time with these, as in `lavabox sim --faults`")
    parser.add_argument("--logs", metavar="DIR", type=Path, help="keep the outputs, each in a file there")
    parser.add_argument("cases", metavar="CASE", nargs="*", help=", ".join(case.name for case in CASES))
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    if arguments.logs is not None:
        arguments.logs.mkdir(parents=True, exist_ok=True)
    heading = "| case | repository | kind | devices | commands | stand-ins | result |"
    heading += f" under `{arguments.faults}` |" if arguments.faults else ""
    print(heading, "|---" * (heading.count("|") - 1) + "|", sep="\n")
    worst = 0
    for case in CASES:
        if arguments.cases and case.name not in arguments.cases:
            continue
        cells = []
        for faults in [None, arguments.faults] if arguments.faults else [None]:
            try:
                good, sentence = run(case, arguments.clones.absolute(), faults, arguments.logs)
            except Unable as error:
                print(f"{case.name}: {error}", file=sys.stderr)
                worst = max(worst, 2)
                break
            worst = max(worst, 0 if good else 1)
            cells.append(sentence if good else f"NOT AS EXPECTED: {sentence}")
        else:
            if case.why:
                cells[0] += f" ({case.why})"
            repositories = ", ".join(
                url.removeprefix("https://github.com/").removesuffix(".git") for url in case.clones
            )
            row = [
                case.name,
                repositories,
                case.kind,
                str(len(case.expected)),
                case.commands,
                case.stood_in,
                *cells,
            ]
            print(f"| {' | '.join(row)} |", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
