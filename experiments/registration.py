"""Pre-registration: what a study said it would do, before its first step."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registration:
    """The plan as it was first written down.

    Attributes:
        digest: hash of that plan, in hexadecimal digits.
        time: when it was written, in UTC.
        arms: the arms it names, baseline included.
        seeds: the seeds it names.
    """

    digest: str
    time: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
