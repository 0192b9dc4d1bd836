"""Version and microversion negotiation (the API working group's microversion specification)."""

from __future__ import annotations

import re
from typing import NamedTuple

from nephos import errors

_FORM = re.compile(r"^(\d{1,4})\.(\d{1,5})$")


class Version(NamedTuple):
    """A microversion; compares as numbers do: (2, 9) < (2, 10)."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @staticmethod
    def parse(text: str) -> Version:
        """Raises BadRequest on anything but MAJOR.MINOR."""
        form = _FORM.match(text.strip())
        if form is None:
            raise errors.BadRequest(
                f"API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum."
            )
        return Version(int(form[1]), int(form[2]))


class Microversions(NamedTuple):
    """The range a service serves. `type` is its word in OpenStack-API-Version, `legacy` an older header's name."""

    type: str
    lowest: Version
    highest: Version
    legacy: str | None = None

    def negotiate(self, header: str | None, legacy: str | None) -> Version:
        """The version to serve. Without a header the lowest; `latest` is the highest.

        Raises BadRequest for a malformed one, NotAcceptable for one outside the range.
        """
        wanted: str | None = None
        for part in (header or "").split(","):
            words = part.split()
            if len(words) == 2 and words[0].lower() == self.type:
                wanted = words[1]
        if wanted is None and legacy:
            wanted = legacy
        if wanted is None:
            return self.lowest
        if wanted.lower() == "latest":
            return self.highest
        version = Version.parse(wanted)
        if not self.lowest <= version <= self.highest:
            raise errors.NotAcceptable(
                f"Version {version} is not supported by the API. Minimum is {self.lowest} and maximum is {self.highest}.",
                detail={"min": str(self.lowest), "max": str(self.highest)},
            )
        return version

    def headers(self, version: Version | None) -> dict[str, str]:
        if version is None:
            return {}
        shown = {"OpenStack-API-Version": f"{self.type} {version}", "Vary": "OpenStack-API-Version"}
        if self.legacy:
            shown[self.legacy] = str(version)
            shown["Vary"] = f"OpenStack-API-Version, {self.legacy}"
        return shown
