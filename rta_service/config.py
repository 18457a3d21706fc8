"""Every setting: default, unit, meaning. Read once, by wiring."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65_535)]


class Settings(BaseSettings):
    """Settings come from RTA_* environment variables, or from files named like them in
    RTA_SECRETS_DIR; the command line's options win over both."""

    model_config = SettingsConfigDict(env_prefix="RTA_", extra="ignore")

    namespace: str = Field(default="rta", pattern=r"^[a-z0-9_-]{1,32}$")
    """Key prefix in the store: one namespace is one advertiser."""
    data_dir: Path = Path("rta-data")
    """Where the embedded store, generated secrets, models and metrics live."""
    models_dir: Path | None = None
    """The model folder; data_dir/models unless set."""
    redis_url: SecretStr | None = None
    """The store: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://; without it
    the service starts its own server in data_dir."""

    host: str = "0.0.0.0"  # noqa: S104 - ad platforms call from outside
    """Address of the decision port."""
    port: Port = 8000
    """Decision port: POST /rta/{platform}, /livez, /readyz."""
    control_host: str = "127.0.0.1"
    """Address of the control port: loopback unless told otherwise."""
    control_port: Port = 8001
    """Control port: models, rollouts, releases, explain, metrics; bearer tokens."""
    ingest_host: str = "0.0.0.0"  # noqa: S104 - platforms' notices come from outside
    """Address of the ingest port."""
    ingest_port: Port = 8002
    """Ingest port: POST /v1/events, GET /track/{platform}/{event}."""
    workers: int = Field(default=1, ge=1, le=256)
    """Decision processes."""

    pepper: SecretStr | None = None
    """Secret that hides device ids, at least 16 characters; generated in data_dir if absent."""
    experiment_key: SecretStr | None = None
    """Secret that decides holdout and arms; never change it; generated in data_dir if absent."""
    event_key: SecretStr | None = None
    """Secret that hides whom events are about and signs tags; generated in data_dir if absent. Before
    you change it, put the one of now into the file of earlier_event_keys."""
    control_token: SecretStr | None = None
    """Bearer token of the control port's first admin; generated in data_dir if absent."""
    tokens_file: Path | None = None
    """Hashes and roles of the control port's other tokens (`rta tokens`);
    data_dir/secrets/control_tokens.toml unless set."""
    two_person_approval: bool = False
    """Whether a model goes live only when a second person approves."""

    budget_ms: float = Field(default=30.0, gt=0, le=1000)
    """From the first byte to the answer, in this process; a platform's 60 ms includes the network."""
    store_timeout_ms: float = Field(default=20.0, gt=0, le=1000)
    """One round trip to the store."""
    store_connections: int = Field(default=8, ge=1, le=256)
    """Connections to the store per decision worker."""
    max_batch: int = Field(default=128, ge=1, le=4096)
    """Requests that share one round trip."""
    max_waiting: int = Field(default=1024, ge=1, le=65_536)
    """Requests that may wait in one worker; beyond it the answer is an immediate no."""
    release_poll_ms: float = Field(default=100.0, gt=0, le=60_000)
    """How often a worker looks at the release pointers; a rollback takes about this long."""
    snapshot_ttl_days: float = Field(default=3.0, gt=0, le=400)
    """How long a published snapshot lives in the store unless published again."""
    drain_s: float = Field(default=10.0, gt=0, le=300)
    """How long a stopping worker may finish what it has."""

    model_keys: Path | None = None
    """File of the public keys whose signatures uploaded models may carry, a name and a key a line;
    data_dir/secrets/model_keys if that is there. Read anew for each upload. This folder's own key is
    always trusted."""
    allow_unsigned_models: bool = False
    """Whether models without a signature may be uploaded; their verdicts say so."""
    model_upload_mb: int = Field(default=300, ge=1, le=300)
    """Most megabytes of one uploaded model with all its files."""

    traffic_sample_rate: float = Field(default=1.0 / 64.0, ge=0, le=1)
    """Share of scored rows that workers keep to compare models on, at most 200 a second each; 0
    keeps none, and then nothing can be in shadow."""
    shadow_cpu_share: float = Field(default=0.05, gt=0, le=1)
    """Of one core, at most, for scoring with models in shadow and canary beside the live ones."""
    autopilot: bool = False
    """Whether models on trial are moved by the autopilot, until an admin switches it."""

    durability: str = "disk"
    """What an acknowledged event survives: disk (the machine), written (the store's process) or
    replicas:N (this machine, with N replicas of the store)."""
    event_max_age_days: float = Field(default=8.0, gt=0, le=60)
    """Older events are rejected; copies of younger ones are told."""
    event_log_length: int = Field(default=5_000_000, ge=1_000)
    """Events that may wait for their consumers; more are refused until some are done."""
    event_currency: str = Field(default="", pattern=r"^([A-Z]{3})?$")
    """The one currency of events' money; empty takes any, and adds what can't be added."""
    earlier_event_keys: Path | None = None
    """File of earlier event keys, one a line: links and tags signed and events sealed under them are
    still read, waiting and archived ones; new ones are the event key's. None unless set."""
    archive_dir: Path | None = None
    """Where events are kept as Parquet for the next profile build; data_dir/events unless set."""
    archive_every_s: float = Field(default=30.0, ge=0, le=3_600)
    """How long events gather before they become a file there."""
    fresh_records: bool = True
    """Whether decisions read what happened since the snapshot, in the same round trip."""

    @property
    def archive_folder(self) -> Path:
        """Where accepted events are kept."""
        return self.archive_dir or self.data_dir / "events"

    @property
    def models_folder(self) -> Path:
        """Where published models lie."""
        return self.models_dir or self.data_dir / "models"

    @property
    def tokens_path(self) -> Path:
        """Where the control port's tokens are kept as hashes."""
        return self.tokens_file or self.data_dir / "secrets" / "control_tokens.toml"

    @property
    def run_dir(self) -> Path:
        """Where the running processes keep their metric cells."""
        return self.data_dir / "run"

    @property
    def place(self) -> str:
        """Name the store for messages, without its password."""
        if self.redis_url is None:
            return f"namespace {self.namespace} in data folder {self.data_dir.resolve()}"
        return f"namespace {self.namespace} in the store of RTA_REDIS_URL / --redis-url"

    def as_environment(self) -> dict[str, str]:
        """Write every setting as the environment variable that a child process reads."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            f"RTA_{name.upper()}": value.get_secret_value()
            if isinstance(value, SecretStr)
            else str(value)
            for name, value in values.items()
            if value is not None
        }
