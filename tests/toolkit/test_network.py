# SPDX-License-Identifier: MIT
"""lava-network: what the kernel says of real interfaces, and what the group says of all.

Interfaces are made in network namespaces of their own, and what is read of them
is compared with what iproute2 reads.
"""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from toolkit import network
from toolkit.commands import lava_echo_ipv4, lava_network
from toolkit.wire.vocabulary import NO, NO_DISPATCHER, OK, CommandError, UsageError

ROOT = Path(network.__file__).resolve().parent.parent

# What is made of the standard input, a shell script, in namespaces of their own; then Python code.
PROBE = """
import json, subprocess, sys
from toolkit import netlink, network
from toolkit.wire.vocabulary import CommandError

warnings = []

def describe(name):
    return {key.decode(): value.decode() for key, value in network.describe(name, warnings.append)}

def refusal(name):
    try:
        describe(name)
    except CommandError as error:
        return [error.status, error.text]

def ip(*arguments):
    return json.loads(subprocess.run(["ip", "-j", *arguments], stdout=subprocess.PIPE, check=True).stdout)

def addresses(name, family):
    (link,) = [link for link in ip("addr", "show", "dev", name)]
    return [address for address in link["addr_info"] if address["family"] == family]
"""

MAKE = "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up"


@cache
def why_not() -> str:
    """What hinders tests with interfaces of their own; "" if nothing does."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return "unshare and ip are needed"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "sh", "-c", MAKE], capture_output=True, text=True
    )
    return (
        f"no network namespace with a veth pair can be made: {tried.stderr.strip()}"
        if tried.returncode
        else ""
    )


@pytest.fixture
def namespace() -> Any:
    """Runs a shell script and then Python code in a network of its own; returns what `answer` is there."""
    if why_not():
        pytest.skip(why_not())

    def run(script: str, code: str) -> Any:
        code = f"{PROBE}\n{code}\nprint(json.dumps([answer, warnings]))"
        shell = f'set -e; {MAKE}; {script}\nexec "$0" -c "$1"'
        done = subprocess.run(
            ["unshare", "--net", "--uts", "--mount", "sh", "-c", shell, sys.executable, code],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        answer, warnings = json.loads(done.stdout)
        assert warnings == [] or isinstance(answer, dict)
        return (answer, warnings) if warnings else answer

    return run


def test_all_there_is_as_iproute2_has_it(namespace: Any, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text(
        "# nameserver 9.9.9.9\nsearch lab\nnameserver 10.1.2.53\n nameserver\t2001:db8::53 # second\nnameserver\n"
    )
    found, expected = namespace(
        f"""
        hostname panda01.lab
        mount --bind {tmp_path}/resolv.conf /etc/resolv.conf
        ip addr add 10.1.2.3/20 brd + dev v0
        ip addr add 2001:db8::3/64 dev v0 nodad
        ip route add default via 10.1.2.1
        """,
        """
found = describe("v0")
(link,) = ip("link", "show", "dev", "v0")
(ipv4,) = addresses("v0", "inet")
(route,) = ip("route", "show", "default")
expected = {"hostname": "panda01.lab", "hostname-full": "panda01.lab", "ipv4": ipv4["local"]}
expected.update({"broadcast": ipv4["broadcast"], "mac": link["address"], "default-gateway": route["gateway"]})
answer = found, expected
""",
    )
    assert found == {
        **expected,
        "netmask": "255.255.240.0",
        "ipv6": "2001:db8::3",
        "dns_1": "10.1.2.53",
        "dns_2": "2001:db8::53",
    }
    assert found["broadcast"] == "10.1.15.255"


def test_of_several_addresses_it_takes_the_kernels_first(namespace: Any) -> None:
    found, ipv4 = namespace(
        """
        ip addr add 169.254.1.1/16 dev v0 scope link
        ip addr add 10.1.2.3/24 dev v0
        ip addr add 10.1.2.4/24 dev v0
        ip addr add 192.168.7.7/24 dev v0
        ip addr add fe80::99/64 dev v0 nodad
        ip addr add 2001:db8::3/64 dev v0 nodad
        ip addr add 10.9.9.9/24 dev v1
        """,
        'answer = describe("v0"), [address["local"] for address in addresses("v0", "inet")]',
    )
    assert len(ipv4) == 4
    assert found["ipv4"] == "10.1.2.3"
    assert "broadcast" not in found
    assert found["ipv6"] == "2001:db8::3"


def test_a_duplicate_address_is_none(namespace: Any) -> None:
    """The other end of the pair has the same address, and says so."""
    found, flags = namespace(
        """
        ip addr add 2001:db8::3/64 dev v1 nodad
        sleep 2
        ip addr add 2001:db8::3/64 dev v0
        n=0
        until ip -6 addr show dev v0 | grep -q dadfailed; do
            n=$((n + 1)); [ $n -lt 50 ] || exit 1; sleep 0.1
        done
        """,
        'answer = describe("v0"), addresses("v0", "inet6")',
    )
    assert any(address.get("dadfailed") for address in flags)
    assert found["ipv6"].startswith("fe80:")


def test_without_an_address_it_tells_the_rest_and_warns(namespace: Any) -> None:
    found, warnings = namespace(
        "sysctl -q -w net.ipv6.conf.v0.disable_ipv6=1",
        'answer = describe("v0")',
    )
    assert set(found) - {"dns_1", "dns_2", "dns_3"} == {"hostname", "hostname-full", "mac"}
    assert warnings == ["v0 has no address"]


def test_without_a_carrier_it_warns(namespace: Any) -> None:
    found, warnings = namespace(
        "ip addr add 10.1.2.3/24 dev v0; ip link set v1 down",
        'answer = describe("v0")',
    )
    assert found["ipv4"] == "10.1.2.3"
    assert warnings == ["v0 has no carrier"]


def test_point_to_point_has_the_own_end_and_no_mac(namespace: Any) -> None:
    found = namespace(
        """
        ip tuntap add dev t0 mode tun
        ip addr add 10.8.0.2 peer 10.8.0.1 dev t0
        ip link set t0 up
        """,
        """
answer = describe("t0")
warnings.remove("t0 has no carrier")
""",
    )
    assert found["ipv4"] == "10.8.0.2"
    assert found["netmask"] == "255.255.255.255"
    assert not {"broadcast", "mac"} & set(found)


def test_loopback(namespace: Any) -> None:
    found = namespace("ip link set lo up", 'answer = describe("lo")')
    assert (found["ipv4"], found["ipv6"], found["netmask"]) == ("127.0.0.1", "::1", "255.0.0.0")


def test_a_down_or_unknown_interface_is_an_error(namespace: Any) -> None:
    refusals = namespace(
        "ip link add w0 type veth peer name w1; ip addr add 10.1.2.3/24 dev w0",
        'answer = [refusal(name) for name in ("w0", "w9", "", "w0:1", "v0 ")]',
    )
    assert [status for status, _ in refusals] == [NO] * 5
    assert refusals[0][1] == "the network interface w0 is down: bring it up first"
    for _, text in refusals[1:]:
        assert text.startswith("there is no network interface '")
        assert "; there are: lo, " in text and "v0" in text


@pytest.mark.parametrize(
    ("routes", "gateway"),
    [
        ("", None),
        (
            "ip route add default via 10.1.2.1 metric 9; ip route add default via 10.1.2.2 metric 5",
            "10.1.2.2",
        ),
        ("ip route add default via 10.1.3.1; ip route add default via 10.1.2.2 metric 500", "10.1.2.2"),
        ("ip route add default via 10.1.3.1", "10.1.3.1"),
        ("ip route add default dev v0", None),
        ("ip route add default dev v0; ip route add default via 10.1.3.1 metric 9", "10.1.3.1"),
        ("ip route add 10.0.0.0/8 via 10.1.2.1", None),
        ("ip route add default via 10.1.2.9 table 7", None),
        ("ip route add unreachable default", None),
        ("ip route add default nexthop via 10.1.3.1 nexthop via 10.1.2.4 nexthop via 10.1.2.3", "10.1.2.4"),
        ("ip route add default via 2001:db8::1", "2001:db8::1"),
        ("ip route add default via 2001:db8::1; ip route add default via 10.1.3.1", "10.1.3.1"),
    ],
)
def test_default_gateway(routes: str, gateway: str | None, namespace: Any) -> None:
    found = namespace(
        f"""
        ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up
        ip addr add 10.1.2.100/24 dev v0; ip addr add 10.1.3.100/24 dev w0
        ip addr add 2001:db8::100/64 dev v0 nodad
        {routes}
        """,
        'answer = describe("v0")',
    )
    assert found.get("default-gateway") == gateway


def test_many_interfaces_and_addresses(namespace: Any) -> None:
    found = namespace(
        """
        n=0
        while [ $n -lt 60 ]; do ip link add x$n type veth peer name y$n; n=$((n + 1)); done
        n=0
        while [ $n -lt 250 ]; do echo "addr add 10.1.$n.1/24 dev v0"; n=$((n + 1)); done | ip -b -
        """,
        """
links = [link.name for link in netlink.links()]
(index,) = [link.index for link in netlink.links() if link.name == "v0"]
found = [address.address for address in netlink.addresses(netlink.IPV4, index)]
answer = [
    [links, [link["ifname"] for link in ip("link")]],
    [found, [address["local"] for address in addresses("v0", "inet")]],
]
""",
    )
    (links, of_ip), (addresses, addresses_of_ip) = found
    assert len(links) > 120
    assert links == of_ip
    assert len(addresses) == 250
    assert addresses == addresses_of_ip


def test_echo_ipv4_of_real_interfaces(namespace: Any) -> None:
    printed = namespace(
        "ip addr add 10.1.2.3/24 dev v0; ip addr add 10.1.2.4/24 dev v0",
        """
answer = []
for name in ("v0", "v1", "v9"):
    command = [sys.executable, "-c", "import sys; from toolkit.cli import main; sys.exit(main(sys.argv[1:]))"]
    done = subprocess.run([*command, "lava-echo-ipv4", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    answer.append([done.returncode, done.stdout.decode(), done.stderr.decode()])
""",
    )
    assert printed[:2] == [[0, "10.1.2.3\n", ""], [0, "\n", ""]]
    status, out, err = printed[2]
    assert (status, out) == (0, "\n")
    assert err.startswith("lava-echo-ipv4: there is no network interface 'v9'")


@pytest.mark.parametrize("arguments", [[], [""], ["-x"], ["nope", "lo"]])
def test_echo_ipv4_without_an_interface_prints_an_empty_line(arguments: list[str], fake_context: Any) -> None:
    context = fake_context()
    assert lava_echo_ipv4.run(arguments, context) == OK
    assert context.written == b"\n"
    assert context.warnings


@pytest.mark.parametrize(
    ("name", "canonical", "full"),
    [
        ("panda.lab", "other", "panda.lab"),
        ("panda", "panda.example.org", "panda.example.org"),
        ("panda", "panda", "panda"),
        ("panda", "localhost", "panda"),
        ("panda", "localhost.localdomain", "panda"),
        ("panda", "", "panda"),
        ("panda", OSError(), "panda"),
    ],
)
def test_full_name(name: str, canonical: str | OSError, full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: bytes, *rest: object) -> list[tuple[Any, ...]]:
        assert host == name.encode()
        if isinstance(canonical, OSError):
            raise canonical
        return [(2, 1, 6, canonical, ("10.0.0.1", 0)), (2, 1, 6, "", ("10.0.0.2", 0))]

    monkeypatch.setattr(network._socket, "getaddrinfo", resolve)
    assert network.full_name(name) == full


def test_no_name_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(network, "RESOLVER", str(tmp_path / "missing"))
    assert network.name_servers() == []


# broadcast, collect, query


FIELDS = [(b"hostname", b"panda"), (b"ipv4", b"10.0.0.1"), (b"dns_1", b"9.9.9.9")]
OTHERS = [
    ["hb02", b"hostname", b"b", b"ipv4", b"10.0.0.2"],
    ["hb03", b"hostname", b"c", b"hostname-full", b"c.lab", b"ipv6", b"2001:db8::3", b"x", b"a=b:c d"],
]
OWN = b"hb01:hostname=panda\nhb01:ipv4=10.0.0.1\nhb01:dns_1=9.9.9.9\n"
OF_OTHERS = (
    b"hb02:hostname=b\nhb02:ipv4=10.0.0.2\n"
    b"hb03:hostname=c\nhb03:hostname-full=c.lab\nhb03:ipv6=2001:db8::3\nhb03:x=a=b:c d\n"
)
YES: dict[str, list[Any]] = {
    "self": ["hb01"],
    "send": [],
    "wait-all": OTHERS,
    "group": [["hb03", "server"], ["hb01", "client"], ["hb02", "client"], ["hb04", "client"]],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "network.txt"


@pytest.fixture
def context(path: Path, fake_context: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A context with a network cache file; `describe` says FIELDS of every interface."""
    monkeypatch.setattr(network, "describe", lambda interface, warn: list(FIELDS))
    return fake_context(YES, {"LAVA_MULTI_NODE_NETWORK_CACHE": str(path)})


def test_broadcast_sends_the_fields_and_keeps_them(context: Any, path: Path) -> None:
    assert lava_network.run(["broadcast", "eth0"], context) == OK
    data = [item for pair in FIELDS for item in pair]
    assert context.requests == [("self",), ("send", b"network_info", data)]
    assert path.read_bytes() == OWN
    assert context.written == b""


def test_broadcast_again_replaces_what_was_told(context: Any, path: Path) -> None:
    told = b"hb01:ipv4=1.1.1.1\nhb01:ipv6=2001:db8::1\nhb01:dns_2=8.8.8.8\n"
    path.write_bytes(told + OF_OTHERS)
    own_path(path).write_bytes(told)
    assert lava_network.run(["broadcast", "eth1"], context) == OK
    sent = context.requests[-1][2]
    assert dict(zip(sent[::2], sent[1::2], strict=True)) == {**dict(FIELDS), b"ipv6": b"", b"dns_2": b""}
    assert path.read_bytes() == OWN + OF_OTHERS


def own_path(path: Path) -> Path:
    return path.with_name(path.name + ".own")


def test_collect_keeps_the_own_broadcast(context: Any, path: Path) -> None:
    path.write_bytes(OWN + b"hb01x:ipv4=1.1.1.1\nhb09:ipv4=9.9.9.9\n")
    own_path(path).write_bytes(OWN)
    assert lava_network.run(["collect", "eth0"], context) == OK
    assert context.requests == [("wait-all", b"network_info", None, None, False)]
    assert path.read_bytes() == OWN + OF_OTHERS


def test_collect_leaves_out_what_a_device_has_emptied(context: Any, path: Path) -> None:
    row = ["hb02", b"ipv6", b"", b"b64", b"x==", b"ipv4", b"10.0.0.2", b"dns_2", b""]
    context.replies = {**YES, "wait-all": [row, ["hb03"]]}
    assert lava_network.run(["collect"], context) == OK
    assert path.read_bytes() == b"hb02:b64=x==\nhb02:ipv4=10.0.0.2\n"


@pytest.mark.parametrize(
    ("arguments", "role", "timeout"),
    [
        ([], None, None),
        (["eth0", "server"], "server", None),
        (["eth0", "", "server"], None, None),
        (["--timeout", "2.5", "eth0"], None, 2500),
        (["eth0", "sérver", "--timeout=1"], "sérver", 1000),
    ],
)
def test_collect_waits_for_all_or_a_role(
    arguments: list[str], role: str | None, timeout: int | None, context: Any, path: Path
) -> None:
    assert lava_network.run(["collect", *arguments], context) == OK
    assert context.requests[-1] == ("wait-all", b"network_info", role, timeout, timeout is not None)
    assert path.read_bytes() == OF_OTHERS


@pytest.mark.parametrize(
    ("arguments", "failing"),
    [
        (["broadcast", "eth0"], "self"),
        (["broadcast", "eth0"], "send"),
    ],
)
def test_a_broadcast_that_fails_leaves_the_cache_file(
    arguments: list[str], failing: str, context: Any, path: Path
) -> None:
    path.write_bytes(b"old\n")
    context.replies = {**YES, failing: CommandError(NO_DISPATCHER, "none")}
    with pytest.raises(CommandError):
        lava_network.run(arguments, context)
    assert path.read_bytes() == b"old\n"
    assert {file for file in path.parent.iterdir() if file.read_bytes()} == {path}


def test_a_collect_that_fails_leaves_nothing_of_an_earlier_one(context: Any, path: Path) -> None:
    for arguments in (["broadcast", "eth0"], ["collect"]):
        assert lava_network.run(arguments, context) == OK
    assert path.read_bytes() == OWN + OF_OTHERS
    context.replies = {**YES, "wait-all": CommandError(NO_DISPATCHER, "none")}
    with pytest.raises(CommandError):
        lava_network.run(["collect", "eth0"], context)
    assert path.read_bytes() == b""
    with pytest.raises(CommandError, match="nothing has been collected"):
        lava_network.run(["query", "hb02", "ipv4"], context)
    context.replies = YES
    assert lava_network.run(["collect"], context) == OK
    assert path.read_bytes() == OWN + OF_OTHERS


@pytest.mark.parametrize("arguments", [["broadcast", "eth0"], ["collect", "eth0"]])
def test_nothing_is_told_if_the_cache_file_cannot_be_written(
    arguments: list[str], context: Any, path: Path
) -> None:
    path.mkdir()
    with pytest.raises(CommandError, match="LAVA_MULTI_NODE_NETWORK_CACHE") as caught:
        lava_network.run(arguments, context)
    assert caught.value.status == NO
    assert [asked for asked in context.requests if asked[0] != "self"] == []


@pytest.mark.parametrize(
    ("name", "option", "printed"),
    [
        ("hb01", "ipv4", b"10.0.0.1\n"),
        ("hb02", "hostname", b"b\n"),
        ("hb03", "x", b"a=b:c d\n"),
        ("hb01", "dns_2", b""),
        ("hb02", "ipv6", b""),
        ("hb02", "ipv", b""),
        ("hb02", "", b""),
    ],
)
def test_query(name: str, option: str, printed: bytes, context: Any, path: Path) -> None:
    path.write_bytes(OWN + OF_OTHERS)
    assert lava_network.run(["query", name, option], context) == OK
    assert context.written == printed
    assert context.requests == []


@pytest.mark.parametrize("name", ["hb0", "hb011", "HB01", "hb.1", "", "hb01:ipv4"])
def test_query_of_an_unknown_host_names_the_known(name: str, context: Any, path: Path) -> None:
    path.write_bytes(OWN + OF_OTHERS)
    with pytest.raises(CommandError, match="hb01, hb02, hb03") as caught:
        lava_network.run(["query", name, "ipv4"], context)
    assert caught.value.status == NO
    assert context.written == b""


@pytest.mark.parametrize("content", [None, b""])
@pytest.mark.parametrize("arguments", [["query", "hb01", "ipv4"], ["hosts", "FILE"], ["alias-hosts", "FILE"]])
def test_before_anything_is_collected(
    arguments: list[str], content: bytes | None, context: Any, path: Path, tmp_path: Path
) -> None:
    if content is not None:
        path.write_bytes(content)
    arguments = [str(tmp_path / "hosts") if argument == "FILE" else argument for argument in arguments]
    with pytest.raises(CommandError, match="nothing has been collected yet") as caught:
        lava_network.run(arguments, context)
    assert caught.value.status == NO
    assert not (tmp_path / "hosts").exists()


WRONG = [
    [],
    ["send"],
    ["broadcast"],
    ["broadcast", "--all"],
    ["collect", "--timeout", "soon"],
    ["query"],
    ["query", "hb01"],
    ["hosts"],
    ["alias-hosts"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=map(repr, WRONG))
def test_wrong_arguments(arguments: list[str], context: Any, path: Path) -> None:
    path.write_bytes(OWN)
    with pytest.raises(UsageError):
        lava_network.run(arguments, context)
    assert context.requests == []


@pytest.mark.parametrize(
    "call", ["broadcast eth0", "collect eth0 client", "query hb01 ipv4", "hosts f", "alias-hosts f"]
)
def test_words_too_many_are_ignored_with_a_warning(
    call: str, context: Any, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path.write_bytes(OWN + b"hb01:ipv4=10.0.0.1\n")
    assert lava_network.run([*call.split(), "more"], context) == OK
    assert context.warnings == ["ignored: 'more'"]


def test_an_interface_is_looked_at_before_anything_is_asked(fake_context: Any) -> None:
    context = fake_context(YES)
    with pytest.raises(CommandError, match="no network interface 'nope0'") as caught:
        lava_network.run(["broadcast", "nope0"], context)
    assert caught.value.status == NO
    assert context.requests == []


# hosts, alias-hosts

BEGIN, END = "# lavabox: devices of the group\n", "# lavabox: end\n"
LINES = "10.0.0.1\tpanda\n10.0.0.2\tb\n2001:db8::3\tc.lab\n"


@pytest.fixture
def hosts(tmp_path: Path, path: Path) -> Path:
    path.write_bytes(OWN + OF_OTHERS)
    return tmp_path / "hosts"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, BEGIN + LINES + END),
        ("", BEGIN + LINES + END),
        ("127.0.0.1 localhost\n", "127.0.0.1 localhost\n" + BEGIN + LINES + END),
        ("127.0.0.1 localhost", "127.0.0.1 localhost\n" + BEGIN + LINES + END),
        (
            "a\r\n\t\n\n" + BEGIN + "1.1.1.1\told\n" + END + "b\nc",
            "a\r\n\t\n\n" + BEGIN + LINES + END + "b\nc",
        ),
        (BEGIN + END + "b", BEGIN + LINES + END + "b"),
        ("x" + BEGIN + "10.0.0.9\ty\n", "x" + BEGIN + "10.0.0.9\ty\n" + BEGIN + LINES + END),
    ],
)
def test_hosts_replaces_its_own_lines_only(before: str | None, after: str, context: Any, hosts: Path) -> None:
    if before is not None:
        hosts.write_bytes(before.encode())
    for _ in range(3):
        assert lava_network.run(["hosts", str(hosts)], context) == OK
        assert hosts.read_bytes() == after.encode()
    assert context.requests == []
    assert context.written == b""


def test_alias_hosts_numbers_roles_in_the_order_of_the_group(context: Any, hosts: Path) -> None:
    hosts.write_bytes(b"before\n\xff\n" + (BEGIN + "1.1.1.1\told\n" + END).encode() + b"after\n")
    assert lava_network.run(["alias-hosts", str(hosts)], context) == OK
    lines = "10.0.0.1\tpanda\tclient01\n10.0.0.2\tb\tclient02\n2001:db8::3\tc.lab\tserver01\n"
    assert hosts.read_bytes() == b"before\n\xff\n" + (BEGIN + lines + END).encode() + b"after\n"


@pytest.mark.parametrize(
    "told",
    [
        b"ipv4=",
        b"ipv6=fe80::1",
        b"ipv4=10.0.0.9 google.com",
        b"ipv4=10.0.0.9#x",
        b"ipv4=10.0.0.9\nhb09:hostname=a\tb",
        b"ipv4=10.0.0.9\nhb09:hostname=#",
        b"ipv4=10.0.0.9\nhb09:hostname=",
    ],
)
def test_what_is_no_line_is_left_out(told: bytes, context: Any, hosts: Path, path: Path) -> None:
    start = b"hb09:hostname=name\n" if b"hostname" not in told else b""
    path.write_bytes(OWN + start + b"hb09:" + told + b"\n")
    assert lava_network.run(["hosts", str(hosts)], context) == OK
    assert hosts.read_text() == BEGIN + "10.0.0.1\tpanda\n" + END
    assert context.warnings == ["'hb09' is left out: it has sent no address or no name"]


def test_mode_owner_and_link_stay(context: Any, hosts: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("x\n")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 1234, 1235)
    before = real.stat()
    hosts.symlink_to("real")
    assert lava_network.run(["hosts", str(hosts)], context) == OK
    after = real.stat()
    assert hosts.is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert real.read_text() == "x\n" + BEGIN + LINES + END


@pytest.mark.parametrize("number", [16, 18, 13])
def test_a_file_that_cannot_be_replaced_is_written_into(
    number: int, context: Any, hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/etc/hosts of a container is a mount: it can be written, and not renamed over."""
    hosts.write_text("x" * 10_000 + "\n")
    inode = hosts.stat().st_ino

    def rename(source: str, target: str, **folders: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "rename", rename)
    assert lava_network.run(["hosts", str(hosts)], context) == OK
    assert hosts.stat().st_ino == inode
    assert hosts.read_text() == "x" * 10_000 + "\n" + BEGIN + LINES + END
    assert sorted(path.name for path in hosts.parent.iterdir()) == ["hosts", "network.txt"]


def test_a_full_disk_leaves_the_old_file(context: Any, hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.write_text("x\n")

    def write(descriptor: int, data: bytes) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(CommandError, match="No space left") as caught:
        lava_network.run(["hosts", str(hosts)], context)
    assert caught.value.status == NO
    assert hosts.read_text() == "x\n"
    assert sorted(path.name for path in hosts.parent.iterdir()) == ["hosts", "network.txt"]


@pytest.mark.parametrize("name", ["missing/hosts", ".", ""])
def test_a_place_that_cannot_be_written(name: str, context: Any, hosts: Path) -> None:
    with pytest.raises(CommandError, match="cannot write the hosts file") as caught:
        lava_network.run(["hosts", str(hosts.parent / name)], context)
    assert caught.value.status == NO


def test_a_block_without_end_is_left_to_a_person(context: Any, hosts: Path) -> None:
    hosts.write_text("a\n" + BEGIN + "b\n")
    with pytest.raises(CommandError, match="by hand"):
        lava_network.run(["hosts", str(hosts)], context)
    assert hosts.read_text() == "a\n" + BEGIN + "b\n"
