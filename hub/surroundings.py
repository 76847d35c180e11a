"""
What stands around a hub beside its store, as `hub doctor` looks at it: files, the ledger's key, identity providers, connectors.

    files(settings)         the folder or bucket that files are kept in, its room, the scanner
    ledger_key(settings)    whether codes protect from more than accidents
    identity(settings)      issuers and their keys, the provider people sign in with; asks each once, for some seconds
    connectors(settings)    each connector by itself: its adapter, its options, its secrets
    secret_files(settings)  who else may read the files that secrets came from

Nothing is written anywhere. Each says what helps where something is wrong.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from types import MappingProxyType
from typing import Final

from hub.channels.delivery import make_channels
from hub.edge.auth import Authenticator
from hub.edge.issuer_keys import FETCH_TIMEOUT_S, fetch_keys, usable_keys
from hub.edge.openid import OpenId, SignInFailed, require_extra
from hub.findings import Finding, free_bytes, gib, private_file, private_folder
from hub.settings import HOW_TO_MAKE_ONE, IssuerSettings, Settings, SettingsError
from hub.store.bucket import BucketBlobs, MissingExtra
from hub.store.intake import Intake

BUCKET_S: Final = 5.0  # somebody is waiting for the report


async def files(settings: Settings) -> AsyncIterator[Finding]:
    """Where files are kept, and what they come in by."""
    if settings.files.s3_bucket:
        yield await _bucket(settings)
    # Whoever has not chosen a folder may have no use for files: the hub serves then, and refuses them.
    chosen = settings.files.dir is not None or bool(settings.files.s3_bucket)
    folder = private_folder("files dir", settings.files_dir, otherwise="fail" if chosen else "warn")
    yield folder
    if folder.level == "ok":
        yield _room(settings)
    if settings.files.scan_command:
        try:
            await asyncio.to_thread(_intake(settings).check_scanner)
            yield Finding("ok", "scanner", settings.files.scan_command[0])
        except OSError as error:
            yield Finding("fail", "scanner", f"{error}; [files] scan_command names what looks at each file")


def _intake(settings: Settings) -> Intake:
    scan = settings.files.scan_command
    return Intake(settings.files_dir, bytes_max=1, upload_ms=1, scan_command=scan)  # which receives nothing


async def _bucket(settings: Settings) -> Finding:
    name = f"{settings.files.s3_bucket} at {settings.files.s3_endpoint or 'Amazon S3'}"
    try:
        async with asyncio.timeout(BUCKET_S):
            await BucketBlobs(settings.files).reach()
    except MissingExtra as error:
        return Finding("fail", "bucket", str(error))
    except TimeoutError:
        return Finding("fail", "bucket", f"{name}: no answer within {BUCKET_S:g} s")
    except OSError as error:
        return Finding("fail", "bucket", f"{name}: {error}; look at its name, s3_region, and the AWS_* variables")
    return Finding("ok", "bucket", f"{name} answers")


def _room(settings: Settings) -> Finding:
    """Whether the disk holds what the quotas allow: all that one organization keeps, or that arrives at a time."""
    arriving = settings.file_uploads_max * settings.file_bytes_max
    if settings.files.s3_bucket:
        wanted, why = arriving, "file_uploads_max files of file_bytes_max may arrive at a time"
    else:
        wanted, why = settings.files_org_bytes_max, "one organization may keep so many (files_org_bytes_max)"
    free = free_bytes(settings.files_dir)
    text = f"{gib(free)} free"
    if free < settings.file_bytes_max:
        return Finding("fail", "files room", f"{text}: less than one file may have (file_bytes_max)")
    if free < wanted:
        return Finding("warn", "files room", f"{text}, {gib(wanted)} wanted: {why}")
    return Finding("ok", "files room", text)


def ledger_key(settings: Settings) -> Iterator[Finding]:
    """Too short a key is refused with the settings; here it is one that nobody has thought of."""
    if settings.ledger_keys:
        sizes = ", ".join(str(len(key)) for key in settings.ledger_keys)
        yield Finding("ok", "ledger key", f"set, {sizes} bytes ({settings.source('ledger_keys')})")
    elif settings.ledger.secret:
        text = "made of the token secret: lines from before a change of it can't be checked; HUB_LEDGER_KEY"
        yield Finding("ok", "ledger key", text)
    else:
        how = HOW_TO_MAKE_ONE.replace("HUB_TOKEN_SECRET", "HUB_LEDGER_KEY")
        yield Finding("fail", "ledger key", f"none: whoever can write to the store can forge the ledger; {how}")


async def identity(settings: Settings) -> AsyncIterator[Finding]:
    """The hub's own secret, and who else says who people are."""
    if settings.token_secret is not None:
        yield Finding("ok", "secret", f"set, {len(settings.token_secret)} bytes ({settings.source('token_secret')})")
    elif settings.issuers:
        yield Finding("ok", "secret", "unset; tokens come from the configured issuers alone")
    else:
        yield Finding("fail", "secret", f"neither a secret nor an issuer is configured: {HOW_TO_MAKE_ONE}")
    for issuer in settings.issuers:
        if (issuer.jwks_url or "").startswith("http://"):
            yield Finding("warn", "issuer", f"{issuer.issuer}: its keys come unprotected; use https://")
    for one in await asyncio.gather(*map(_keys, settings.issuers)):
        yield one
    if settings.sign_in is not None:
        yield await _sign_in(settings)


async def _keys(issuer: IssuerSettings) -> Finding:
    where = issuer.jwks_file or issuer.jwks_url
    try:
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            found = usable_keys(await asyncio.to_thread(fetch_keys, issuer))
    except Exception as error:  # whatever a broken issuer sends is a finding
        return Finding("fail", "issuer", f"{issuer.issuer}: no keys from {where} ({type(error).__name__})")
    if not found:
        return Finding("fail", "issuer", f"{issuer.issuer}: no key that could be used at {where}")
    return Finding("ok", "issuer", f"{issuer.issuer}: {len(found)} keys from {where}")


async def _sign_in(settings: Settings) -> Finding:
    """Asks the provider for its metadata, as a hub does; the redirect address can be compared by a person alone."""
    assert settings.sign_in is not None
    named = f"{settings.sign_in.client_id} at {settings.sign_in.issuer}"
    try:
        require_extra(settings)
        openid = OpenId(settings, Authenticator(settings))
        await openid.reach()
    except SettingsError as error:
        return Finding("fail", "sign-in", str(error))
    except SignInFailed as failed:
        return Finding("fail", "sign-in", f"{named}: {failed.message} Asked was {settings.sign_in.discovery_url}")
    secret = "a secret" if settings.sign_in.client_secret is not None else "no secret: a public client"
    return Finding("ok", "sign-in", f"{named}, with {secret}; register there as redirect address {openid.callback}")


def connectors(settings: Settings) -> Iterator[Finding]:
    """Those that the hub delivers for. An adapter refuses options that it can't work with, a missing secret among them."""
    for name, configured in settings.connectors.items():
        alone = dataclasses.replace(settings, connectors=MappingProxyType({name: configured}))
        try:
            [one] = make_channels(alone).values()
        except SettingsError as error:
            yield Finding("fail", "connector", str(error))
            continue
        if settings.public_url:
            yield Finding("ok", "connector", f"{name} by {one.adapter}, reached at {one.place.url}")
        else:
            yield Finding(
                "warn", "connector", f"{name} by {one.adapter}: without public_url its provider can't open files"
            )


def secret_files(settings: Settings) -> Iterator[Finding]:
    """Each once, whoever it is for."""
    for path in dict.fromkeys(settings.secret_files):
        yield private_file("secret file", path)
