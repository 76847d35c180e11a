"""
What the hub may do in its store, and no more: the commands it sends, on the keys and channels that are its own.

    NEEDED       each command with a sample of its arguments, so that a server can be asked whether it would be allowed
    TOO_MUCH     what it never sends; whoever may do that could do harm with the hub's password
    rules        the user, as `ACL SETUSER` and a line of an ACL file have it (docs/stack/users.acl is made of this)

`hub doctor` asks the store about both lists by `ACL DRYRUN`. Commands of the scripts are checked by the server like our own.
"""

from collections.abc import Mapping
from typing import Final

KEY: Final = "{key}"  # in a sample: some key of ours
SOMETIMES: Final[Mapping[str, str]] = {
    "asking": "a Cluster whose slots move",
    "cluster|slots": "a Cluster",
    "wait": "replicas",
    "select": "another database than 0",
    "exists": "files that people send",
    "decrby": "files that people send",
    "incrby": "files that people send",
    "bgrewriteaof": "erasing a customer, also from the store's own file",
    "persist": "erasing a customer",
    "scan": "erasing a customer: it shows the names of all keys of the server, and no values",
    "smembers": "erasing a customer",
    "hscan": "hub ledger",
    "xlen": "the ledger",
    "zrange": "the ledger",
    "info": "hub doctor",
    "acl|whoami": "hub doctor",
    "zcard": "a connector that the hub delivers for",
    "acl|dryrun": "hub doctor",
}
# fmt: off
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "acl|dryrun": ("default", "PING"), "acl|whoami": (), "asking": (), "bgrewriteaof": (), "client|setname": ("hub",),
    "cluster|slots": (), "decrby": (KEY, "1"), "del": (KEY,), "evalsha": ("0" * 40, "1", KEY), "exists": (KEY,),
    "get": (KEY,), "getdel": (KEY,), "hdel": (KEY, "f"), "hexists": (KEY, "f"), "hget": (KEY, "f"), "hgetall": (KEY,),
    "hlen": (KEY,), "hmget": (KEY, "f"), "hscan": (KEY, "0"), "hset": (KEY, "f", "v"), "hvals": (KEY,),
    "incrby": (KEY, "1"), "info": (),
    "lindex": (KEY, "0"), "llen": (KEY,), "lpop": (KEY,), "persist": (KEY,), "pexpire": (KEY, "1"), "ping": (),
    "role": (), "rpush": (KEY, "v"), "sadd": (KEY, "v"), "scan": ("0",), "script|load": ("return 1",),
    "select": ("0",), "set": (KEY, "v"), "sismember": (KEY, "v"), "smembers": (KEY,), "smismember": (KEY, "v"),
    "spublish": (KEY, "m"), "srem": (KEY, "v"), "ssubscribe": (KEY,), "sunsubscribe": (KEY,), "time": (),
    "unlink": (KEY,), "wait": ("0", "1"), "xadd": (KEY, "*", "f", "v"), "xlen": (KEY,), "xrange": (KEY, "-", "+"),
    "xrevrange": (KEY, "+", "-"), "zadd": (KEY, "1", "m"), "zcard": (KEY,), "zrange": (KEY, "0", "1"),
    "zrangebyscore": (KEY, "0", "1"), "zrem": (KEY, "m"), "zremrangebyscore": (KEY, "0", "1"),
    "zrevrange": (KEY, "0", "1"), "zrevrangebyscore": (KEY, "1", "0"), "zscore": (KEY, "m"),
}
TOO_MUCH: Final[tuple[tuple[str, ...], ...]] = (
    ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "requirepass"), ("CONFIG", "SET", "appendonly", "no"),
    ("DEBUG", "SLEEP", "0"), ("SHUTDOWN",), ("MONITOR",), ("ACL", "SETUSER", "x"), ("ACL", "LIST"), ("SCRIPT", "FLUSH"),
    ("EVAL", "return 1", "0"), ("FUNCTION", "LIST"), ("REPLICAOF", "NO", "ONE"), ("CLIENT", "KILL", "127.0.0.1:1"),
    ("MODULE", "LIST"), ("SAVE",), ("MIGRATE", "h", "1", "k", "0", "1"), ("DUMP", KEY), ("RENAME", KEY, KEY),
    ("GET", "another:key"), ("SET", "another:key", "v"), ("SSUBSCRIBE", "another:channel"), ("SUBSCRIBE", "another:channel"),
)
# fmt: on


def rules(prefix: str) -> list[str]:
    """Rights of the hub's user on keys and channels that begin with `prefix`, without its password."""
    own = f"{prefix}:*"
    return ["resetkeys", f"~{own}", "resetchannels", f"&{own}", "-@all", *(f"+{name}" for name in NEEDED)]


def acl_file(prefix: str) -> str:
    """
    An ACL file with that user, and nobody else let in; its password is no hash of anything until an operator sets one.

    The servers allow no comments in it.
    """
    nobody = "#" + "0" * 64
    return f"user default reset\nuser hub on {nobody} {' '.join(rules(prefix))}\n"


def sample(name: str, key: str) -> list[str]:
    """The command `name` of `NEEDED` as it could be sent."""
    return [*name.split("|"), *(key if word == KEY else word for word in NEEDED[name])]
