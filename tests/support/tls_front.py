"""A real TLS server in front of a plain one, with its own certificate authority."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from anyio.abc import ByteReceiveStream, ByteStream, SocketStream
from anyio.streams.tls import TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fault_gateway import Hold

HOST = "127.0.0.1"
_CLOSED = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, ssl.SSLError)


class Authority:
    """A self-signed certificate for 127.0.0.1 and other `names`; only clients with `pem` trust it."""

    def __init__(self, *names: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sora-mcp test")])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(7))
        host = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST)), *map(x509.DNSName, names)])
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = (
            builder.add_extension(host, critical=False)
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )
        self.key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def server(self) -> ssl.SSLContext:
        """The context of a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with TemporaryDirectory() as folder:
            file = Path(folder, "server.pem")
            file.write_bytes(self.pem + self.key)
            context.load_cert_chain(file)
        return context


@asynccontextmanager
async def tls_front(
    address: str, context: ssl.SSLContext, *, handshake_delay_s: float = 0, hold: Hold | None = None
) -> AsyncIterator[str]:
    """An https address in front of the plain `address`; each handshake starts after `handshake_delay_s`, the first one
    when `hold` is released."""
    holds = [] if hold is None else [hold]
    port = int(address.rpartition(":")[2])

    async def relay(connection: SocketStream) -> None:
        async with connection:
            await anyio.sleep(handshake_delay_s)
            if holds:
                first = holds.pop()
                first.reached.set()
                await first.release.wait()
            with suppress(*_CLOSED):
                outside = await TLSStream.wrap(connection, ssl_context=context, standard_compatible=False)
                async with (
                    outside,
                    await anyio.connect_tcp(HOST, port) as inside,
                    anyio.create_task_group() as directions,
                ):
                    directions.start_soon(_forward, outside, inside)
                    directions.start_soon(_forward, inside, outside)

    listener = await anyio.create_tcp_listener(local_host=HOST, local_port=0)
    async with listener, anyio.create_task_group() as connections:
        connections.start_soon(listener.serve, relay)
        yield f"https://{HOST}:{listener.extra(anyio.abc.SocketAttribute.local_port)}"  # noqa: S610 - no Django
        connections.cancel_scope.cancel()


async def _forward(source: ByteReceiveStream, target: ByteStream) -> None:
    with suppress(*_CLOSED):
        async for chunk in source:
            await target.send(chunk)
    with suppress(*_CLOSED):
        await target.aclose()
