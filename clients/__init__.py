"""The Python SDK: supervisors, agents, platforms and customers as clients of the hub."""

from clients.agent import Agent, connect_agent
from clients.connector import Connector, EventResult, connect_connector
from clients.customer import Customer, connect_customer
from clients.files import fetch_file, upload_file
from clients.policy import Backoff
from clients.session import Options, Session, Token
from clients.supervisor import Monitor, Ownership, Supervisor, TakeoverPlan, connect_supervisor
from clients.wire import ClientError, ConnectionEnded, Event, HubError

__all__ = [
    "Agent",
    "Backoff",
    "ClientError",
    "ConnectionEnded",
    "Connector",
    "Customer",
    "Event",
    "EventResult",
    "HubError",
    "Monitor",
    "Options",
    "Ownership",
    "Session",
    "Supervisor",
    "TakeoverPlan",
    "Token",
    "connect_agent",
    "connect_connector",
    "connect_customer",
    "connect_supervisor",
    "fetch_file",
    "upload_file",
]
