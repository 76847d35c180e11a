"""The SDK for agent desktops, and for bots that answer customers."""

from clients.session import Options, Session, Token


class Agent(Session):
    """An agent's connection: own conversations by `conversation.snapshot`, `message.*`, `takeover.notified`, ..."""

    endpoint = "/v1/agent"

    async def status_set(self, status: str) -> None:
        """Set one's status: available, busy, away, break, meal, meeting, training, on_queue or offline."""
        await self.command("status.set", status=status)

    async def roster_subscribe(self) -> str:
        """Watch one's own conversations as a view; returns the subscription's id."""
        return str((await self.command("view.subscribe", view="roster"))["subscription"])

    async def message_send(
        self,
        conversation_id: str,
        text: str,
        client_message_id: str,
        attachments: list[dict[str, str]] | None = None,
    ) -> str:
        """
        Answer the customer; returns the message's id. The same `client_message_id` is sent once.

        Raises `HubError` `stale_owner` where one doesn't own the conversation (any more); the text comes back in
        `details["draft"]` and never reaches the customer.
        """
        answer = await self.command(
            "message.send",
            conversation_id=conversation_id,
            text=text,
            client_message_id=client_message_id,
            attachments=attachments,
        )
        return str(answer["message_id"])

    async def typing(self, conversation_id: str, on: bool) -> None:
        """Show or hide that one is typing."""
        await self.command("typing", conversation_id=conversation_id, on=on)

    async def draft_update(self, conversation_id: str, text: str) -> None:
        """Keep an unsent text with the hub; a takeover gives it back (`returned_draft`)."""
        await self.command("draft.update", conversation_id=conversation_id, text=text)

    async def takeover_acknowledge(self, takeover_id: str) -> None:
        """Say that `takeover.notified` was seen; it isn't repeated after it."""
        await self.command("takeover.acknowledge", takeover_id=takeover_id)

    async def wrapup_submit(self, conversation_id: str, code: str, notes: str | None = None) -> None:
        """Answer `wrapup.requested` with one of its codes."""
        await self.command("wrapup.submit", conversation_id=conversation_id, code=code, notes=notes)

    async def conversation_end(self, conversation_id: str) -> None:
        """End a conversation that one owns."""
        await self.command("conversation.end", conversation_id=conversation_id)


def connect_agent(url: str, *, token: Token, options: Options | None = None) -> Agent:
    """An agent's client for `async with`; see `connect_supervisor` for `token`, waiting and errors."""
    return Agent(url, token, options)
