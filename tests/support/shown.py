"""What a hub shows to an operator: `/readyz`, `/metrics` and its log."""

from tests.support.plain import plain_client
from tests.support.processes import HubProcess
from tests.support.socket import Json, eventually


class Shown:
    """One hub, and what it shows."""

    def __init__(self, hub: HubProcess) -> None:
        self.hub = hub

    async def ready(self) -> tuple[int, Json]:
        """Status and body of `/readyz`."""
        async with plain_client() as http:
            answer = await http.get(f"{self.hub.url}/readyz")
        return answer.status_code, dict(answer.json())

    async def gauges(self, name: str) -> list[float]:
        """That gauge of `/metrics` (labels written as there), or nothing where the hub doesn't say it."""
        async with plain_client() as http:
            text = (await http.get(self.hub.metrics)).text
        return [float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")]

    async def gauge(self, name: str) -> float:
        """One gauge of `/metrics` that is there."""
        [value] = await self.gauges(name)
        return value

    def logged(self, words: str) -> bool:
        """True where the log has these words."""
        return words in self.hub.log.read_text(errors="replace")

    async def until_ready(self, status: int) -> Json:
        """Wait for that status of `/readyz`; its body."""

        async def there() -> bool:
            return (await self.ready())[0] == status

        await eventually(there, 20, f"/readyz {status}")
        return (await self.ready())[1]

    async def until_logged(self, words: str) -> None:
        """Wait for these words in the log."""

        async def there() -> bool:
            return self.logged(words)

        await eventually(there, 20, f"{words!r} in the log\n{self.hub.tail()}")

    async def until_gauge(self, name: str, least: float) -> None:
        """Wait until a gauge is at least that."""

        async def there() -> bool:
            return await self.gauge(name) >= least

        await eventually(there, 20, f"{name} >= {least}")
