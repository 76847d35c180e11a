"""The SDK for the customer's side of the web messenger."""

from clients.session import Options, Session, Token


class Customer(Session):
    """A customer's connection, bound to one conversation by its token."""

    endpoint = "/v1/customer"

    async def conversation_start(self, queue: str, subject: str | None = None, name: str | None = None) -> str | None:
        """Begin the conversation; returns its id where the hub tells it (`conversation.snapshot` follows)."""
        answer = await self.command("conversation.start", queue=queue, subject=subject, name=name)
        conversation = answer.get("conversation_id")
        return None if conversation is None else str(conversation)

    async def message_send(
        self,
        conversation_id: str,
        text: str,
        client_message_id: str,
        attachments: list[dict[str, str]] | None = None,
    ) -> str:
        """Write to whoever answers; returns the message's id. The same `client_message_id` is sent once."""
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

    async def receipt_send(self, message_id: str, status: str) -> None:
        """Report that a message was `delivered` or `read`."""
        await self.command("receipt.send", message_id=message_id, status=status)

    async def conversation_end(self, conversation_id: str) -> None:
        """End the conversation."""
        await self.command("conversation.end", conversation_id=conversation_id)


def connect_customer(url: str, *, token: Token, options: Options | None = None) -> Customer:
    """A customer's client for `async with`; see `connect_supervisor` for `token`, waiting and errors."""
    return Customer(url, token, options)
