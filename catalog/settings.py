"""What can be chosen about the catalogue's server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class ServerSettings(BaseModel):
    """Where the Tiled server listens, and how eagerly it ingests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 lets other machines in")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 lets the system choose a free one")
    poll_interval: float = Field(0.02, ge=0.001, le=10, description="s, between two looks at the journals")
    response_bytesize_limit: int = Field(
        300_000_000, ge=1_000_000, description="bytes of one answer; a larger request is refused before it is read"
    )
    catalog_uri: SecretStr | None = Field(None, description="`postgresql://` of the index; null: SQLite")
    tables_uri: SecretStr | None = Field(None, description="`postgresql://` of the rows of events; null: SQLite")
    keys_uri: SecretStr | None = Field(
        None, description="`postgresql://` of the keys, a database of its own; null: SQLite"
    )
    streaming_uri: SecretStr | None = Field(
        None, description="`redis://` for live updates to subscribers of every server; null: none are sent"
    )

    @field_validator("catalog_uri", "tables_uri", "keys_uri")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith("postgresql://"):
            raise ValueError("not the address of a database, postgresql://USER:PASSWORD@HOST/NAME")
        return value

    @field_validator("streaming_uri")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("not the address of a Redis, redis://HOST:PORT/NUMBER")
        return value
