"""Who runs it: `User` against the image's own account files, as Docker reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether import accounts
from agent.tether.errors import CANNOT_START, StartError

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin

# a comment: is: no: account
+nis::::::
app:x:1000:1001:App:/home/app:/bin/sh
7:x:77:78::/seven:/bin/sh
homeless:x:1002:1002:::
twin:x:1000:5::/twin:/bin/sh
broken:x:abc:0::/:/bin/sh
short:x:1003:1003
 padded:x:1004:1004::/padded:/bin/sh
"""
GROUP = """\
root:x:0:
app:x:1001:
audio:x:29:root,app
video:x:44:app,homeless
empty:x:50:
7:x:88:
broken:x:xyz:app
"""

USERS = [
    # id, User, uid, gid, groups, home
    ("moby: empty is root", "", 0, 0, (0, 29), "/root"),
    ("a name", "root", 0, 0, (0, 29), "/root"),
    ("a name with groups, the primary first", "app", 1000, 1001, (1001, 29, 44), "/home/app"),
    ("runc: a known uid is that account", "1000", 1000, 1001, (1001, 29, 44), "/home/app"),
    ("runc: an unknown uid has group 0", "4242", 4242, 0, (0,), "/"),
    ("runc: a number is never a name", "7", 7, 0, (0,), "/"),
    ("user:group", "app:audio", 1000, 29, (29,), "/home/app"),
    ("user:gid", "app:29", 1000, 29, (29,), "/home/app"),
    ("uid:group", "1000:audio", 1000, 29, (29,), "/home/app"),
    ("uid:gid, neither known", "5000:6000", 5000, 6000, (6000,), "/"),
    ("runc: a numeric group is never a name", "app:7", 1000, 7, (7,), "/home/app"),
    ("runc: an empty group is none", "app:", 1000, 1001, (1001, 29, 44), "/home/app"),
    ("runc: an empty user with a group is root", ":audio", 0, 29, (29,), "/root"),
    ("an explicit group drops the others", "app:0", 1000, 0, (0,), "/home/app"),
    ("the first account of a uid counts", "1000", 1000, 1001, (1001, 29, 44), "/home/app"),
    ("a later name with the same uid is itself", "twin", 1000, 5, (5,), "/twin"),
    ("runc: no home in the account", "homeless", 1002, 1002, (1002, 44), ""),
    ("runc: a line that ends early", "short", 1003, 1003, (1003,), ""),
    ("runc: space around a line", "padded", 1004, 1004, (1004,), "/padded"),
    ("the largest id", "2147483647:2147483647", 2147483647, 2147483647, (2147483647,), "/"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [row[1:] for row in USERS],
    ids=[row[0] for row in USERS],
)
def test_identity(user, uid, gid, groups, home):
    identity = accounts.resolve_identity(user, PASSWD, GROUP)
    assert identity == accounts.Identity(uid, gid, groups, home)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        pytest.param("ghost", "'ghost' is not in the image's /etc/passwd", id="unknown user"),
        pytest.param("app:ghosts", "'ghosts' is not in the image's /etc/group", id="unknown group"),
        pytest.param("broken", "not in the image's /etc/passwd", id="an account without a uid"),
        pytest.param("app:broken", "not in the image's /etc/group", id="a group without a gid"),
        pytest.param("2147483648", "ids go from 0", id="a uid out of range"),
        pytest.param("0:2147483648", "ids go from 0", id="a gid out of range"),
        pytest.param("9" * 5000, "ids go from 0", id="more digits than int() takes"),
        pytest.param("-1", "not in the image's /etc/passwd", id="a negative uid is a name"),
        pytest.param("a:b:c", "expected user, uid", id="too many parts"),
        pytest.param("١٢", "not in the image's /etc/passwd", id="digits of another script"),
    ],
)
def test_no_identity(user, expected):
    with pytest.raises(StartError, match=expected) as caught:
        accounts.resolve_identity(user, PASSWD, GROUP)
    assert (caught.value.kind, caught.value.code) == ("user", CANNOT_START)


def test_image_without_account_files():
    assert accounts.resolve_identity("", "", "") == accounts.Identity(0, 0, (0,), "/")
    assert accounts.resolve_identity("12:34", "", "") == accounts.Identity(12, 34, (34,), "/")


@given(st.text(), st.text(), st.text())
def test_any_text_gives_an_identity_or_a_start_error(user, passwd, group):
    try:
        identity = accounts.resolve_identity(user, passwd, group)
    except StartError:
        return
    assert 0 <= identity.uid <= accounts.MAX_ID
    assert identity.groups[0] == identity.gid
