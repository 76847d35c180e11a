"""Origins that look like an allowed one and aren't it."""

from urllib.parse import urlsplit


def wrong_origins(allowed: str) -> dict[str, list[bytes]]:
    """What a browser's page of elsewhere, or somebody's program, could say in `Origin`, by what is wrong; several: lines."""
    parts = urlsplit(allowed)
    scheme, host, port = parts.scheme, parts.hostname or "", f":{parts.port}" if parts.port else ""
    other = "https" if scheme == "http" else "http"
    upper = host.upper() if host.upper() != host else f"{host}."
    one = {
        "null": "null",
        "empty": "",
        "blank": " ",
        "a star": "*",
        "the host alone": f"{host}{port}",
        "without scheme": f"//{host}{port}",
        "other scheme": f"{other}://{host}{port}",
        "scheme in capitals": f"{scheme.upper()}://{host}{port}",
        "scheme of files": f"file://{host}{port}",
        "scheme of sockets": f"ws://{host}{port}",
        "scheme of an extension": f"chrome-extension://{host}",
        "another port": f"{scheme}://{host}:1",
        "no port, or a port": f"{scheme}://{host}" if port else f"{scheme}://{host}:8443",
        "a port of zeros": f"{scheme}://{host}:0{port.removeprefix(':') or '443'}",
        "port and nothing": f"{scheme}://{host}:",
        "host in capitals": f"{scheme}://{upper}{port}",
        "trailing dot": f"{scheme}://{host}.{port}",
        "trailing slash": f"{allowed}/",
        "a path": f"{allowed}/desk",
        "a query": f"{allowed}?",
        "a fragment": f"{allowed}#",
        "suffix": f"{scheme}://{host}.evil.example{port}",
        "prefix": f"{scheme}://evil{host}{port}",
        "subdomain": f"{scheme}://evil.{host}{port}",
        "user info": f"{scheme}://{host}{port}@evil.example",
        "user info before": f"{scheme}://evil@{host}{port}",
        "backslash": f"{scheme}://evil.example\\@{host}{port}",
        "a letter of another script": f"{scheme}://{host[:-1]}\u0435{port}",
        "the same letter, composed otherwise": f"{scheme}://{host}\u0301{port}",
        "IDN of another": f"{scheme}://xn--{host}-kva{port}",
        "a list": f"{allowed} https://evil.example",
        "a list, commas": f"https://evil.example, {allowed}",
        "twice the same in one": f"{allowed}, {allowed}",
        "percent-encoded": f"{scheme}://%{ord(host[0]):02x}{host[1:]}{port}",
        "a tab within": f"{scheme}:\t//{host}{port}",
        "elsewhere": "https://evil.example",
    }
    lines = {name: [value.encode("utf-8")] for name, value in one.items()}
    return lines | {
        "two lines, ours first": [allowed.encode(), b"https://evil.example"],
        "two lines, ours last": [b"https://evil.example", allowed.encode()],
        "two lines, both ours": [allowed.encode(), allowed.encode()],
    }
