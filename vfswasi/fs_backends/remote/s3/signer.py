"""Where a file system of s3fs asks, and what its requests are signed with, wherever that came from."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit


async def connected(fs: Any) -> tuple[str, object]:
    """(the server, equal for all names of it; the signature's version and the credentials). On fsspec's loop."""
    client = await fs.set_session()
    parts = urlsplit(str(client.meta.endpoint_url))
    # A bucket has one name in all regions of AWS.
    host = (parts.hostname or "").removesuffix(".cn")
    where = "aws" if host.endswith(".amazonaws.com") else f"{host}:{parts.port or parts.scheme}"
    signer = client._request_signer
    unsigned = str(signer.signature_version)
    credentials = signer._credentials
    if credentials is None:
        return where, (unsigned, None)
    frozen = await credentials.get_frozen_credentials()
    return where, (unsigned, frozen.access_key, frozen.secret_key, frozen.token)
