"""What tests of the built-in components share: an image in which they are installed."""

from __future__ import annotations

from tests.components_image import components_image  # noqa: F401 - a fixture
